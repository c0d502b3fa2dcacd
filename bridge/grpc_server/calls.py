"""The calls that are being served: which of them a drain waits for, and how they are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bridge.core.errors import DrainingError

_DRAINING = "The server is shutting down."


def is_cancelled() -> bool:
    """Whether this task was cancelled, as opposed to something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Calls:
    """The tasks of the bridge's own calls; grpc.health.v1 and reflection are not among them.

    A call is idle while nothing is being answered in it: a drain ends it at once, and waits only
    for the others.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._idle: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()
        self._draining = False

    def __len__(self) -> int:
        """How many have not ended, their cleanup included."""
        return len(self._running)

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Count the current task as a call."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)
            self._ended.discard(task)

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Count the current call as idle; raises DrainingError where a drain has begun."""
        if self._draining:
            raise DrainingError(_DRAINING)
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        try:
            yield
        finally:
            self._idle.discard(task)

    def drain(self) -> None:
        """End the idle calls, now and from now on."""
        self._draining = True
        self._end(self._idle)

    def end(self) -> None:
        """End every call."""
        self._end(self._running)

    def reason_to_end(self) -> DrainingError | None:
        """Why the current task was cancelled, if that was done here."""
        return DrainingError(_DRAINING) if asyncio.current_task() in self._ended else None

    async def finished(self, seconds: float) -> bool:
        """Wait for the calls that run; says whether all ended."""
        if not self._running:
            return True
        _, pending = await asyncio.wait(set(self._running), timeout=seconds)
        return not pending

    def _end(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks & self._running:
            if not task.cancelling():
                # The others are at their cleanup already.
                self._ended.add(task)
                task.cancel()
