"""One answer that is streamed to the client that asked for it, so that it can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from bridge.core.contract import Event, Finished, RequestCancelledError


@dataclass(slots=True)
class StreamedRequest:
    """A request whose answer is streamed to its client."""

    task: asyncio.Task[Any] | None = None
    """What waits for the next event, if anything does."""
    cancelled: bool = False
    interrupted: bool = False
    """Whether the task was cancelled for that."""
    complete: bool = False
    """Whether the answer has had its last event."""

    async def next(self, events: AsyncGenerator[Event, None]) -> Event | None:
        """Return the next event, or None after the last; raises RequestCancelledError."""
        if self.cancelled:
            raise cancelled()
        task = self.task = asyncio.current_task()
        assert task is not None
        try:
            event = await anext(events, None)
        except asyncio.CancelledError:
            if self.interrupted and task.cancelling() == 1:
                raise cancelled() from None
            raise
        finally:
            self.task = None
            if self.interrupted:
                # However it ended: the task goes on, and is not cancelled for its owner.
                task.uncancel()
        self.complete = isinstance(event, Finished)
        return event

    def cancel(self) -> None:
        """End it with a RequestCancelledError at the next event, or now if it is awaited.

        No effect once the answer is complete.
        """
        if self.cancelled or self.complete:
            return
        self.cancelled = True
        if self.task is not None and not self.task.cancelling():
            self.interrupted = True
            self.task.cancel()


def cancelled() -> RequestCancelledError:
    """Return the error of a request that was cancelled by its id."""
    return RequestCancelledError("The request was cancelled by its id.")
