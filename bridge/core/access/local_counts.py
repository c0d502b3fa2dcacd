"""Counts the use of each key in this process; what is used of budgets survives a restart."""

from __future__ import annotations

import itertools
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bridge.core.access.budgets import Spent
from bridge.core.access.counts import MINUTE, Minute, Use, minute_of
from bridge.core.access.decision import refusal
from bridge.core.access.keys import KeyLimits
from bridge.core.access.spending import SpendingFile


@dataclass(slots=True)
class _Count:
    running: set[str] = field(default_factory=set)
    begun: list[float] = field(default_factory=list)


class LocalCounts:
    """The counts of one process, and the budgets of all that share its file."""

    def __init__(
        self,
        file: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Store what is used of budgets in `file`; None keeps it in memory only."""
        self._clock = clock
        self._now = now
        self._ids = itertools.count(1)
        self._counts: dict[str, _Count] = {}
        self._spending = SpendingFile(file, now)

    async def admit(self, caller: str, limits: KeyLimits) -> str:
        """Count one more request as running; raises RateLimitedError."""
        error = refusal(limits, self.use_now(caller, limits), self._now())
        if error is not None:
            raise error
        id = str(next(self._ids))
        self.note(caller, id, limits)
        return id

    def note(self, caller: str, id: str, limits: KeyLimits) -> None:
        """Count a request as running that is admitted."""
        count, now = self._counts.setdefault(caller, _Count()), self._clock()
        count.running.add(id)
        del count.begun[: bisect_right(count.begun, now - MINUTE)]
        if limits.per_minute is not None:
            count.begun.append(now)

    async def finish(self, caller: str, id: str, tokens: int = 0) -> None:
        """Count a request as ended."""
        self._counts[caller].running.discard(id)
        if tokens:
            self._spending.add(caller, tokens=tokens)

    def charge(self, caller: str, usd: float) -> None:
        """Count what a key has used of its budgets in dollars."""
        self._spending.add(caller, usd=usd)

    async def use(self, caller: str, limits: KeyLimits) -> Use:
        """Return the current use of a key."""
        return self.use_now(caller, limits)

    def use_now(self, caller: str, limits: KeyLimits) -> Use:
        """Return the current use of a key."""
        count = self._counts.get(caller, _Count())
        minute = Minute()
        if limits.per_minute is not None:
            minute = minute_of(count.begun, self._clock(), limits.per_minute)
        return Use(len(count.running), minute, self.spent(caller))

    def running(self, caller: str) -> tuple[str, ...]:
        """Return the ids of the running requests of a key."""
        count = self._counts.get(caller)
        return () if count is None else tuple(count.running)

    @property
    def runners(self) -> tuple[str, ...]:
        """The keys that have running requests."""
        return tuple(caller for caller, count in self._counts.items() if count.running)

    @property
    def spenders(self) -> tuple[str, ...]:
        """The keys that have used something of their budgets."""
        return self._spending.keys

    @property
    def source(self) -> str:
        """An id of what is counted of budgets; see `SpendingFile`."""
        return self._spending.source

    def spent(self, caller: str) -> Spent:
        """Return what a key has used of its budgets."""
        return self._spending.of(caller)

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Nothing is due regularly; at the end, what could not be stored before is."""
        try:
            yield
        finally:
            self.store()

    def store(self) -> None:
        """Store what could not be stored before."""
        self._spending.store()
