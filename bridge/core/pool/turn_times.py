"""How long turns take, and so how long a request would wait. Pure, but for what it remembers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import fmean

SHORTEST = 1.0
LONGEST = 600.0
"""Seconds that a caller is asked to wait, at the least and at the most."""

_KEPT = 32


class TurnTimes:
    """How long the last turns have taken."""

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=_KEPT)

    def note(self, seconds: float) -> None:
        """Note how long a turn has taken."""
        self._took.append(seconds)

    def seconds_a_turn(self, running: Iterable[float] = ()) -> float:
        """How long a turn takes, on average.

        `running` are the turns not over yet, by the seconds they have taken so far: those that
        take longer than usual count as well.
        """
        usual = fmean(self._took) if self._took else 0.0
        return fmean([*self._took, *(age for age in running if age >= usual)] or [0.0])


def wait_estimate(ahead: int, pool_size: int, seconds_a_turn: float) -> float:
    """Seconds until a request has its turn, with all turns taken and `ahead` others before it."""
    return min(max((ahead + 1) * seconds_a_turn / pool_size, SHORTEST), LONGEST)
