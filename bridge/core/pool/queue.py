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
    """A request that waits."""

    view: RequestView
    granted: asyncio.Future[PooledProcess]
    spawn_awaited: bool = False
    """Whether it waits for a process to start."""
    forgotten: bool = False
    """Whether its conversation is not to be held open."""

    def taken_back(self) -> PooledProcess | None:
        """The process that was granted to a caller that is leaving, if that was just done."""
        granted = self.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            return granted.result()
        return None


class RequestQueue:
    """Holds the requests that wait, until they are granted a process, refused or gone."""

    def __init__(self, size: int) -> None:
        """`size` is the most requests of one caller that wait."""
        self._size = size
        self._waiting: dict[int, Waiting] = {}
        self.served: dict[str, int] = {}
        """The last turn of each caller, by its number: callers are the names of keys, so few."""

    def __len__(self) -> int:
        return len(self._waiting)

    def present(self) -> list[Waiting]:
        """The requests in it, without any whose caller has gone in this very moment."""
        return [waiting for waiting in self._waiting.values() if not waiting.granted.done()]

    def check_size(self, newest: Waiting, wait_estimate: Callable[[], float]) -> None:
        """Take out the newest request where it is one too many; raises QueueFullError."""
        caller = newest.view.caller
        if newest.granted.done():
            return
        if sum(waiting.view.caller == caller for waiting in self.present()) > self._size:
            self.leave(newest)
            raise QueueFullError(
                f"{self._size} requests are waiting already (BRIDGE_QUEUE_SIZE).",
                retry_after=wait_estimate(),
            )

    def join(self, view: RequestView) -> Waiting:
        """Put a request at the end."""
        waiting = Waiting(view, asyncio.get_running_loop().create_future())
        self._waiting[view.id] = waiting
        return waiting

    def forget(self, caller: str) -> None:
        """Hold no conversation of a caller open later."""
        for waiting in self._waiting.values():
            waiting.forgotten = waiting.forgotten or waiting.view.caller == caller

    def ahead(self, need: Need, running: Iterable[str]) -> int:
        """How many requests would have their turn before one that came now.

        `running` are the callers of the turns that run.
        """
        newcomer = RequestView(0, need.profile, need.caller)
        views = [*(waiting.view for waiting in self.present()), newcomer]
        return fair_order(views, Counter(running), self.served).index(newcomer)

    def leave(self, waiting: Waiting) -> None:
        """Take a request out, if it is still there."""
        self._waiting.pop(waiting.view.id, None)

    def grant(self, request_id: int, process: PooledProcess) -> Waiting:
        """Give a request its process."""
        waiting = self._waiting.pop(request_id)
        waiting.granted.set_result(process)
        return waiting

    def refuse_all(self, error: Callable[[], BridgeError]) -> None:
        """Answer all requests with an error, each with its own."""
        for waiting in self.present():
            waiting.granted.set_exception(error())
        self._waiting.clear()
