"""Starts processes: at once, or later if they keep failing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

from bridge.core.claude import ControlError, ProcessGoneError, Session
from bridge.core.pool.backoff import PROOF_SECONDS, StartBackoff
from bridge.core.pool.leases import PooledProcess
from bridge.core.pool.policy import State
from bridge.core.telemetry import kind_of

logger = logging.getLogger(__name__)

SLOW_START_SECONDS = 15.0
"""A start that takes longer is reported by the health check if no other process can serve; it
usually takes about one second."""


class Starter:
    """Starts processes, and delays further starts after failures."""

    def __init__(
        self,
        spawn: Callable[[], Coroutine[Any, Any, Session]],
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        """`on_change` is called when processes may be started again after failures, and when one is
        slow to start."""
        self._spawn = spawn
        self._clock = clock
        self._on_change = on_change
        self._backoff = StartBackoff()
        self.cause = ""
        """Why the last failed start failed, in a sentence that callers may read too."""
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, process: PooledProcess) -> bool:
        """Start a process, which is then a blank; False if it does not start."""
        slow = asyncio.get_running_loop().call_later(SLOW_START_SECONDS + 0.1, self._on_change)
        try:
            process.session = await self._spawn()
        except (OSError, ControlError, ProcessGoneError) as error:
            logger.error("a Claude Code process could not be started: %s", kind_of(error))
            self.cause = error.cause if isinstance(error, ProcessGoneError) else ""
            return False
        finally:
            slow.cancel()
        self.cause = ""
        process.state = State.BLANK
        process.used_at = process.up_at = self._clock()
        return True

    @property
    def ready(self) -> bool:
        """Whether processes may be started now."""
        return self._timer is None

    @property
    def looping(self) -> bool:
        """Whether every start fails."""
        return self._backoff.looping

    def failed(self, process: PooledProcess) -> float:
        """Count a process that failed before it was of use; return the seconds until the next
        start."""
        delay = self._backoff.failed(process.started_at, self._clock())
        if delay:
            self.close()
            self._timer = asyncio.get_running_loop().call_later(delay, self._open)
        return delay

    def proven(self, process: PooledProcess) -> None:
        """Record that a process has been of use."""
        process.proven = True
        self._backoff.proven(process.started_at)

    def check_age(self, processes: Iterable[PooledProcess]) -> float | None:
        """After failures, look for a process that has lived long; return when to check again."""
        if not self._backoff.failures:
            return None
        now = self._clock()
        young: list[float] = []
        for process in processes:
            if process.alive and process.sound(now):
                self._backoff.proven(process.started_at)
            elif process.alive:
                young.append(process.up_at + PROOF_SECONDS)
        return min(young, default=None)

    def settled(self) -> None:
        """Record that all processes are sound and no failed one is to be replaced."""
        self._backoff.over()

    def close(self) -> None:
        """Cancel pending starts."""
        if self._timer is not None:
            self._timer.cancel()

    def _open(self) -> None:
        self._timer = None
        self._on_change()

    def usable(self, processes: Iterable[PooledProcess]) -> bool:
        """Whether a process is expected to work."""
        now = self._clock()
        alive = [process for process in processes if process.alive]
        if self._backoff.looping:
            return any(process.sound(now) for process in alive)
        return bool(alive)

    def trouble(self, processes: Collection[PooledProcess]) -> str:
        """Return a problem of the processes, in a sentence; empty if there is none."""
        usable = self.usable(processes)
        if not usable and self._hanging(processes):
            return (
                f"Claude Code has not answered within {SLOW_START_SECONDS:g} seconds of its start."
            )
        failures = self._backoff.failures
        if not self._backoff.looping and (failures <= 1 or usable):
            return ""
        return (
            f"Claude Code has failed {failures} times in a row before its first answer; "
            f"the next start is within {max(self._backoff.delay, 1):g} seconds. {self.cause}"
        ).rstrip()

    def _hanging(self, processes: Iterable[PooledProcess]) -> bool:
        """Whether one takes longer to start than it should."""
        late = self._clock() - SLOW_START_SECONDS
        return any(p.state is State.STARTING and p.started_at <= late for p in processes)
