"""The report, as a Markdown document and as JSON. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Spread, median, quantile
from benchmarks.machine import Machine
from benchmarks.record import Line

_HEAD = ("what", "subject", "median", "p95", "n", "x SDK (quartiles)", "target", "")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a scenario; `error` is the reason if it has no lines."""

    name: str
    about: str
    seconds: float
    lines: Sequence[Line] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    machine: Machine
    rounds: int
    quick: bool
    outcomes: Sequence[Outcome]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "machine": dataclasses.asdict(self.machine),
            "rounds": self.rounds,
            "quick": self.quick,
            "scenarios": [
                {
                    "name": outcome.name,
                    "about": outcome.about,
                    "seconds": round(outcome.seconds, 1),
                    "error": outcome.error or None,
                    "lines": [line.to_json() for line in outcome.lines],
                }
                for outcome in self.outcomes
            ],
        }

    def to_markdown(self) -> str:
        """The report as Markdown."""
        parts = [self._head()]
        for outcome in self.outcomes:
            parts += [f"## {outcome.name}", outcome.about]
            if outcome.error:
                parts.append(f"**Failed:** {outcome.error}")
            else:
                parts.append(_table([_HEAD, *(_row(line) for line in outcome.lines)]))
        return "\n\n".join(parts) + "\n"

    def _head(self) -> str:
        machine = self.machine
        versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
        targets = [
            line.target for o in self.outcomes for line in o.lines if line.target is not None
        ]
        kept = sum(target.reached for target in targets)
        quick = " (--quick: too few for reliable figures)" if self.quick else ""
        return (
            "# Overhead of the bridge compared with driving Claude Code directly\n\n"
            f"- Machine: {machine.cores} cores, {machine.cpu}, {machine.memory_gb} GB, "
            f"{machine.system}; load average {machine.load} before the run\n"
            f"- Versions: {versions}\n"
            f"- Rounds: {self.rounds}{quick}; subjects take turns within each round; the model is "
            "simulated, so the times contain no model time\n"
            f"- `x SDK` is the median of the per-round ratios to a hot `ClaudeSDKClient` whose "
            "clearing is not timed, with their quartiles\n"
            f"- Targets reached: {kept} of {len(targets)}"
        )


def _row(line: Line) -> tuple[str, ...]:
    target = ""
    reached = line.note
    if line.target is not None:
        target = f"{line.target.text}: {_spread(line.target.figure)}"
        reached = "reached" if line.target.reached else "**missed**"
        reached += f"; {line.note}" if line.note else ""
    few = len(line.values) < 2
    return (
        line.what,
        line.subject,
        _value(median(line.values), line.unit),
        "" if few else _value(quantile(line.values, 0.95), line.unit),
        str(len(line.values) or ""),
        "" if line.ratio is None else _spread(line.ratio),
        target,
        reached,
    )


def _value(value: float, unit: str) -> str:
    return "-" if math.isnan(value) else f"{_number(value)} {unit}".strip()


def _spread(value: Spread) -> str:
    if value.lower == value.upper:
        return _number(value.median)
    return f"{_number(value.median)} ({_number(value.lower)} to {_number(value.upper)})"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in cells) for n in range(len(cells[0]))]
    padded = [[c.ljust(width) for c, width in zip(row, widths, strict=True)] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join(lines)
