"""The tasks that work on processes, off every request's path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from bridge.core.pool.leases import PooledProcess
from bridge.core.telemetry import trace_of

logger = logging.getLogger(__name__)

Work: TypeAlias = Callable[[PooledProcess], Coroutine[Any, Any, None]]


class ProcessTasks:
    """Runs work on processes until `aclose`."""

    def __init__(self, on_error: Callable[[PooledProcess], None]) -> None:
        """`on_error` is called with a process whose work failed unexpectedly."""
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def run(self, work: Work, on: PooledProcess) -> None:
        """Start work on a process; nothing is started after `aclose`."""
        if self._closed:
            return
        task = asyncio.create_task(self._guarded(work, on))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Cancel all work and wait for that."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _guarded(self, work: Work, on: PooledProcess) -> None:
        try:
            await work(on)
        except Exception as error:  # noqa: BLE001 - it is logged, and the process ended
            logger.error("a pool task failed\n%s", trace_of(error))
            self._on_error(on)
