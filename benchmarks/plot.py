"""The plot of a report: latency and throughput against the number of concurrent requests.

matplotlib is optional: it is imported only when a plot is requested.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Spread, spread
from benchmarks.record import Line
from benchmarks.scenarios.throughput import FIRST, RATE

PANELS = ((FIRST, "ms"), (RATE, "requests/s"))

_AT = re.compile(r"(.+), (\d+) at once")


class PlotError(Exception):
    """matplotlib or the data to plot is missing."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One subject's figures by the number of concurrent requests."""

    subject: str
    points: tuple[tuple[int, Spread], ...]


def curves(lines: Iterable[Line], what: str) -> tuple[Curve, ...]:
    """The curves of a figure, one per subject, in the order of the report."""
    points: dict[str, list[tuple[int, Spread]]] = defaultdict(list)
    for line in lines:
        match = _AT.fullmatch(line.what)
        if match is not None and match[1] == what and line.values:
            points[line.subject].append((int(match[2]), spread(line.values)))
    return tuple(Curve(subject, tuple(sorted(found))) for subject, found in points.items())


def draw(lines: Iterable[Line], file: Path) -> None:
    """Write the plot; the file name's extension selects the format.

    Raises PlotError if matplotlib is missing or the scenario `throughput` was not run.
    """
    lines = tuple(lines)
    if not curves(lines, FIRST):
        raise PlotError("--plot needs the scenario throughput: add it to --only.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("--plot needs matplotlib: pip install matplotlib") from error
    figure: Any = Figure(figsize=(10, 4.5), layout="constrained")
    for axes, (what, unit) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for curve in curves(lines, what):
            counts = [count for count, _ in curve.points]
            middle = [around.median for _, around in curve.points]
            axes.plot(counts, middle, marker="o", label=curve.subject)
            axes.fill_between(
                counts,
                [around.lower for _, around in curve.points],
                [around.upper for _, around in curve.points],
                alpha=0.15,
            )
        axes.set(title=what, xlabel="requests at once", ylabel=unit, xscale="log")
        counts = sorted({count for curve in curves(lines, what) for count, _ in curve.points})
        axes.set_xticks(counts, labels=[str(count) for count in counts], minor=False)
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, dpi=120)
