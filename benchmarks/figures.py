"""Medians, quantiles and ratios. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


def quantile(values: Sequence[float], share: float) -> float:
    """The interpolated quantile, with `share` between 0 and 1; NaN for no values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(values: Sequence[float]) -> float:
    """The middle value; NaN for no values."""
    return quantile(values, 0.5)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the quartiles around it."""

    median: float
    lower: float
    upper: float


def spread(values: Sequence[float]) -> Spread:
    """The median and quartiles of values."""
    return Spread(median(values), quantile(values, 0.25), quantile(values, 0.75))


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Each value divided by the base's value of the same round.

    Rounds that are missing in either, or in which the base is 0, are left out.
    """
    return [
        value / floor
        for value, floor in zip(values, base, strict=False)
        if floor and math.isfinite(value) and math.isfinite(floor)
    ]


def gaps(moments: Sequence[float]) -> list[float]:
    """The times between consecutive moments."""
    return [later - earlier for earlier, later in pairwise(moments)]
