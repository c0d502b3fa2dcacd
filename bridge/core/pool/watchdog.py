"""Finds processes that run and do not answer, or that have grown without bound, and ends them.

A user of such a process sees it end, and handles that: a request that has nothing of its answer
yet gets another process, and one that is not in use is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bridge.core.claude import Session
from bridge.core.pool.recycling import Recycling

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchdogLimits:
    """How closely processes are watched."""

    interval: float = 15.0
    """Seconds from one look at all processes to the next."""
    timeout: float = 20.0
    """Seconds that a process has to answer, a matter of milliseconds when all is well."""


class Watchdog:
    """Looks at every process in turn, from `start` to `aclose`."""

    def __init__(
        self,
        sessions: Callable[[], Iterable[Session]],
        limits: WatchdogLimits,
        recycling: Recycling,
    ) -> None:
        """`sessions` are those to look at: booted, and neither being reset nor being ended."""
        self._sessions = sessions
        self._limits = limits
        self._recycling = recycling
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Look no longer."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._limits.interval)
            await asyncio.gather(*(self._look(session) for session in list(self._sessions())))

    async def _look(self, session: Session) -> None:
        try:
            if self._recycling.runaway(session):
                logger.error("process %s has grown too large and is ended", session.pid)
                session.kill()
            elif not await session.answers_within(self._limits.timeout):
                logger.error("process %s does not answer and is ended", session.pid)
                session.kill()
        except Exception:
            # The others are still to be looked at, now and later.
            logger.exception("a process could not be looked at")
