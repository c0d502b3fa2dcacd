"""The requests that wait for a process, in order of arrival."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bridge.core.contract import BridgeError, QueueFullError
from bridge.core.pool.leases import Need, PooledProcess
from bridge.core.pool.policy import RequestView, fair_order


@dataclass(slots=True, eq=False)
class Waiting:
    """A waiting request."""

    view: RequestView
    granted: asyncio.Future[PooledProcess]
    spawn_awaited: bool = False
    """Whether it waits for a process to start."""
    forgotten: bool = False
    """Whether its conversation must not be held open."""

    def taken_back(self) -> PooledProcess | None:
        """The process that was just granted to a caller that is leaving, if any."""
        granted = self.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            return granted.result()
        return None


class RequestQueue:
    """Holds waiting requests until they are granted a process, refused or cancelled."""

    def __init__(self, size: int) -> None:
        """`size` is the maximum number of waiting requests per caller."""
        self._size = size
        self._waiting: dict[int, Waiting] = {}
        self.short = 0
        """How many have a turn but can get no process within the limits of this pool."""
        self.served: dict[str, int] = {}
        """The number of each caller's last turn. Callers are key names, so there are few."""

    def __len__(self) -> int:
        return len(self._waiting)

    def present(self) -> list[Waiting]:
        """Return its requests, without those whose caller is just leaving."""
        return [waiting for waiting in self._waiting.values() if not waiting.granted.done()]

    def check_size(self, newest: Waiting, wait_estimate: Callable[[], float]) -> None:
        """Remove the newest request if the queue is full; raises QueueFullError."""
        caller = newest.view.caller
        if newest.granted.done():
            return
        if sum(waiting.view.caller == caller for waiting in self.present()) > self._size:
            self.leave(newest)
            raise QueueFullError(
                f"{self._size} requests are already waiting (BRIDGE_QUEUE_SIZE).",
                retry_after=wait_estimate(),
            )

    def join(self, view: RequestView) -> Waiting:
        """Append a request."""
        waiting = Waiting(view, asyncio.get_running_loop().create_future())
        self._waiting[view.id] = waiting
        return waiting

    def forget(self, caller: str) -> None:
        """Do not hold the conversations of a caller open later."""
        for waiting in self._waiting.values():
            waiting.forgotten = waiting.forgotten or waiting.view.caller == caller

    def ahead(self, need: Need, running: Iterable[str]) -> int:
        """Return how many requests would get a turn before a new one.

        `running` are the callers of the running turns.
        """
        newcomer = RequestView(0, need.profile, need.caller)
        views = [*(waiting.view for waiting in self.present()), newcomer]
        return fair_order(views, Counter(running), self.served).index(newcomer)

    def leave(self, waiting: Waiting) -> None:
        """Remove a request, if it is still there."""
        self._waiting.pop(waiting.view.id, None)

    def grant(self, request_id: int, process: PooledProcess) -> Waiting:
        """Give a request its process."""
        waiting = self._waiting.pop(request_id)
        waiting.granted.set_result(process)
        return waiting

    def refuse_all(self, error: Callable[[], BridgeError]) -> None:
        """Fail all requests, each with its own error."""
        for waiting in self.present():
            waiting.granted.set_exception(error())
        self._waiting.clear()
