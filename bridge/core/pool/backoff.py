"""How soon another process is started after some have failed. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DELAY = 30.0
"""Seconds between two attempts, at the most."""

LOOP = 3
"""So many failures in a row are a crash loop."""

PROOF_SECONDS = 10.0
"""A process that has lived for so long is sound, though it has not answered anything yet."""


@dataclass(slots=True)
class StartBackoff:
    """Counts the processes that failed in a row, each before it was of any use."""

    failures: int = 0
    _failed_at: float = float("-inf")

    def failed(self, started_at: float, now: float) -> float:
        """Note the failure of a process that began to start at `started_at`.

        Gives the seconds to wait until another is started. Those that fail together, as when
        all are ended from outside, count as one: in a loop it is the new ones that fail.
        """
        if started_at >= self._failed_at:
            self._failed_at = now
            self.failures += 1
        return self.delay

    def proven(self, started_at: float) -> None:
        """Note that a process is sound. One that is older than the last failure proves nothing."""
        if started_at >= self._failed_at:
            self.failures = 0

    def over(self) -> None:
        """Note that there is nothing left to be started."""
        self.failures = 0

    @property
    def delay(self) -> float:
        """Seconds to wait after the last failure; none after the first."""
        # The exponent is bounded too: a float has its limits.
        return 0.0 if self.failures <= 1 else min(2.0 ** min(self.failures - 2, 16), MAX_DELAY)

    @property
    def looping(self) -> bool:
        """Whether whatever is started fails."""
        return self.failures >= LOOP
