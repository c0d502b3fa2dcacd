"""How long turns take, and so how long a request would wait. Pure, except for its memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import fmean

SHORTEST = 1.0
LONGEST = 600.0
"""Minimum and maximum seconds that a caller is asked to wait."""

_KEPT = 32


class TurnTimes:
    """The durations of recent turns."""

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=_KEPT)

    def note(self, seconds: float) -> None:
        """Record the duration of a turn."""
        self._took.append(seconds)

    def seconds_a_turn(self, running: Iterable[float] = ()) -> float:
        """Return the average duration of a turn.

        `running` are the durations so far of unfinished turns: those that already take longer than
        usual count as well.
        """
        usual = fmean(self._took) if self._took else 0.0
        return fmean([*self._took, *(age for age in running if age >= usual)] or [0.0])


def wait_estimate(ahead: int, pool_size: int, seconds_a_turn: float) -> float:
    """Estimate the seconds until a request gets its turn: all turns are taken, `ahead` are before
    it."""
    return min(max((ahead + 1) * seconds_a_turn / pool_size, SHORTEST), LONGEST)
