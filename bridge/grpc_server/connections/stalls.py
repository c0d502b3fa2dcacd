"""A client that does not read its answer."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class StallTimeout:
    """Cancels the current task when one write takes longer than `limit` seconds.

    A write waits until the client has read enough of the earlier ones: a client that stops reading
    without disconnecting would occupy its process forever.

    The writer sets `since` to the loop's time before each write and to None after it, which costs
    less per token than a timer.
    """

    __slots__ = ("_handle", "_limit", "_loop", "_task", "since", "stalled")

    def __init__(self, limit: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._limit = limit
        self._handle: asyncio.TimerHandle | None = None
        self.since: float | None = None
        self.stalled = False
        """Whether this cancelled the task."""

    def __enter__(self) -> Self:
        self._handle = self._loop.call_later(self._limit, self._check)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _check(self) -> None:
        now = self._loop.time()
        due = (now if self.since is None else self.since) + self._limit
        if due > now:
            self._handle = self._loop.call_at(due, self._check)
        elif self._task is not None:
            self.stalled = True
            self._task.cancel()
