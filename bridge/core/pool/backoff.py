"""How soon another process is started after failures. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DELAY = 30.0
"""Maximum seconds between two attempts."""

LOOP = 3
"""This many failures in a row are a crash loop."""

PROOF_SECONDS = 10.0
"""A process that has lived this long is sound, even if it has not answered anything yet."""


@dataclass(slots=True)
class StartBackoff:
    """Counts processes that failed in a row, each before it was of any use."""

    failures: int = 0
    _failed_at: float = float("-inf")

    def failed(self, started_at: float, now: float) -> float:
        """Record the failure of a process that began to start at `started_at`.

        Returns the seconds to wait before the next start. Processes that fail together, as when all
        are killed from outside, count as one: in a crash loop, the new ones fail.
        """
        if started_at >= self._failed_at:
            self._failed_at = now
            self.failures += 1
        return self.delay

    def proven(self, started_at: float) -> None:
        """Record that a process is sound. One that is older than the last failure proves
        nothing."""
        if started_at >= self._failed_at:
            self.failures = 0

    def over(self) -> None:
        """Record that there is nothing left to start."""
        self.failures = 0

    @property
    def delay(self) -> float:
        """Seconds to wait after the last failure; 0 after the first."""
        # The exponent is bounded too, to avoid overflow.
        return 0.0 if self.failures <= 1 else min(2.0 ** min(self.failures - 2, 16), MAX_DELAY)

    @property
    def looping(self) -> bool:
        """Whether every start fails."""
        return self.failures >= LOOP
