"""Finds processes that hang or have grown without bound, and ends them.

A user of such a process sees it end, and handles that: a request without any part of its answer
gets another process, and an unused process is replaced.
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
    """Seconds between checks of all processes."""
    timeout: float = 20.0
    """Seconds that a process has to answer; it usually takes milliseconds."""


class Watchdog:
    """Checks every process in turn, from `start` to `aclose`."""

    def __init__(
        self,
        sessions: Callable[[], Iterable[Session]],
        limits: WatchdogLimits,
        recycling: Recycling,
    ) -> None:
        """`sessions` returns those to check: booted, and neither being reset nor being ended."""
        self._sessions = sessions
        self._limits = limits
        self._recycling = recycling
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start checking."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop checking."""
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
                logger.error("terminating process %s: it has grown too large", session.pid)
                session.kill()
            elif not await session.answers_within(self._limits.timeout):
                logger.error("terminating process %s: it does not answer", session.pid)
                session.kill()
        except Exception:
            # The other processes still have to be checked, now and later.
            logger.exception("a process could not be checked")
