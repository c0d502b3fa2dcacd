"""The results of a scenario: lines of figures, each with its target if it has one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import Spread, median, quantile, ratios, spread

SDK = "SDK client"
"""The name of the baseline subject."""


@dataclass(frozen=True, slots=True)
class Target:
    """The limit for a figure, and the measured value."""

    text: str
    limit: float
    figure: Spread
    at_most: bool = True

    @property
    def reached(self) -> bool:
        """Whether the median is within the limit."""
        median = self.figure.median
        return median <= self.limit if self.at_most else median >= self.limit


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of one subject."""

    what: str
    subject: str
    unit: str = ""
    values: Sequence[float] = ()
    ratio: Spread | None = None
    """Spread of the per-round ratios to the hot SDK client."""
    target: Target | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """The line as JSON."""
        around = spread(self.values)
        return {
            "what": self.what,
            "subject": self.subject,
            "unit": self.unit,
            "samples": len(self.values),
            "median": _number(around.median),
            "lower_quartile": _number(around.lower),
            "upper_quartile": _number(around.upper),
            "p95": _number(quantile(self.values, 0.95)),
            "ratio_to_sdk": _spread(self.ratio),
            "target": self.target
            and {"text": self.target.text, "figure": _spread(self.target.figure)},
            "reached": self.target and self.target.reached,
            "note": self.note,
        }


def not_supported(what: str, subject: str, reason: str) -> Line:
    """A line for a request that this version of the server rejects."""
    return Line(what, subject, note=f"not supported yet: {reason}")


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _spread(value: Spread | None) -> dict[str, float | None] | None:
    if value is None:
        return None
    return {
        "median": _number(value.median),
        "lower_quartile": _number(value.lower),
        "upper_quartile": _number(value.upper),
    }


@dataclass
class Samples:
    """Values by figure and subject, one per round."""

    _values: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, what: str, subject: str, value: float) -> None:
        """Record the value of one round."""
        self._values[what, subject].append(value)

    def values(self, what: str, subject: str) -> list[float]:
        """All values so far."""
        return self._values.get((what, subject), [])

    def median(self, what: str, subject: str) -> float:
        """The median of all values so far."""
        return median(self.values(what, subject))

    def to(self, what: str, subject: str, base: str) -> Spread:
        """The per-round ratios to another subject's."""
        return spread(ratios(self.values(what, subject), self.values(what, base)))

    def line(
        self, what: str, subject: str, unit: str, *, target: Target | None = None, note: str = ""
    ) -> Line:
        """The line of one figure, with the ratio to the base."""
        ratio = None if subject == SDK else self.to(what, subject, SDK)
        if ratio is not None and math.isnan(ratio.median):
            ratio = None
        return Line(what, subject, unit, tuple(self.values(what, subject)), ratio, target, note)
