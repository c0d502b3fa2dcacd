"""One detached answer: its events, recorded as they come, for any number of readers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from bridge.core.contract import (
    BridgeError,
    Citation,
    CompletionRequest,
    EncryptedThinking,
    Event,
    Finished,
    InvalidRequestError,
    OnEnd,
    Started,
    TextDelta,
    TextStart,
    ThinkingDelta,
    ThinkingSignature,
    ToolCallDelta,
    ToolCallStart,
)

_OBJECT_BYTES: Final = 64
"""The memory of an event besides its texts, with its place in the list."""
_FRAME_BYTES: Final = 1024
"""The memory of the first and of the last event, about."""

_STEP: Final = 250
"""Events that a reader gets at once."""


def size_of(event: Event) -> int:
    """Return about how many bytes of memory an event takes."""
    match event:
        case TextDelta(text) | ThinkingDelta(text) | ToolCallDelta(_, text):
            return _OBJECT_BYTES + sys.getsizeof(text)
        case ThinkingSignature(data) | EncryptedThinking(data):
            return _OBJECT_BYTES + sys.getsizeof(data)
        case ToolCallStart(_, id, name):
            return _OBJECT_BYTES + sys.getsizeof(id) + sys.getsizeof(name)
        case Citation(location):
            return _OBJECT_BYTES + 4 * sys.getsizeof(repr(location))
        case TextStart():
            return _OBJECT_BYTES
        case Started() | Finished():
            return _FRAME_BYTES


class Recording:
    """A DetachedAnswer."""

    def __init__(self, request: CompletionRequest, started_on: float, on_end: OnEnd | None) -> None:
        """`started_on` is in Unix seconds."""
        self.owner = request.owner
        self.on_end = on_end
        """Kept as long as the answer is, with what belongs to it."""
        self.size = 0
        """About how many bytes of memory its events take."""
        self.ended_at: float | None = None
        """When it ended, in seconds of the registry's clock."""
        self.admitted = asyncio.Event()
        """Set once the request waits for a process, or has ended."""
        self.task: asyncio.Task[None] | None = None
        """What records it."""
        self.cancelled = False
        self.refused = False
        """Whether it ended before it was admitted: its caller gets the error at once."""
        self._request_id = request.request_id
        self._started_on = started_on
        self._events: list[Event] = []
        self._ended = False
        self._error: BridgeError | None = None
        self._readers: list[asyncio.Future[None]] = []

    @property
    def request_id(self) -> str:
        """The server's id of the request."""
        return self._request_id

    @property
    def started_on(self) -> float:
        """When it was asked for, in Unix seconds."""
        return self._started_on

    @property
    def recorded(self) -> Sequence[Event]:
        """The events so far."""
        return self._events

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        return self._ended

    @property
    def complete(self) -> bool:
        """Whether it has had its last event; what is done after that changes nothing."""
        return bool(self._events) and isinstance(self._events[-1], Finished)

    @property
    def error(self) -> BridgeError | None:
        """The error that ended it, if any."""
        return self._error

    async def events(self, after: int = 0) -> AsyncGenerator[tuple[int, Event], None]:
        """Yield the events with their sequence numbers, from `after` + 1 on, to the end."""
        if after < 0:
            raise InvalidRequestError(
                "Invalid value for 'after_sequence_number': expected at least 0.",
                field="after_sequence_number",
            )
        if after > len(self._events):
            raise InvalidRequestError(
                f"The answer has had {len(self._events)} events so far, so there is nothing after "
                f"number {after}.",
                field="after_sequence_number",
            )
        number = after
        while True:
            while number < len(self._events):
                number += 1
                yield number, self._events[number - 1]
                if number % _STEP == 0:
                    # A long answer is read again in steps, between which others are served.
                    await asyncio.sleep(0)
            if self._ended:
                break
            await self._more()
        if self._error is not None:
            raise self._error.again()

    def add(self, event: Event) -> int:
        """Record an event; returns its size."""
        self._events.append(event)
        size = size_of(event)
        self.size += size
        self._wake()
        return size

    def end(self, error: BridgeError | None) -> None:
        """Record the end."""
        self._error = None if error is None else error.again()
        self._ended = True
        self.admitted.set()
        self._wake()

    def cancel(self) -> None:
        """End it; no effect once it is complete."""
        if self.task is None or self.cancelled or self._ended or self.complete:
            return
        self.cancelled = True
        self.task.cancel()

    async def _more(self) -> None:
        reader = asyncio.get_running_loop().create_future()
        self._readers.append(reader)
        await reader

    def _wake(self) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            if not reader.done():
                reader.set_result(None)
