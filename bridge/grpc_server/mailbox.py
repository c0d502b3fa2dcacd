"""What waits to be sent to a client: joined where it can be, a heartbeat where there is nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Generic, NamedTuple, Self, TypeAlias, TypeVar

from bridge.core.contract import Event, TextDelta, ThinkingDelta, ToolCallDelta
from bridge.grpc_server.call_context import is_cancelled

MAX_JOINED: Final = 16 * 1024
"""Characters of joined deltas: the answer waits for a client that reads slowly."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing has been sent for a while."""


SILENCE: Final = Heartbeat()


class Numbered(NamedTuple):
    """An event and its sequence number, or that of the last if several were joined."""

    event: Event
    number: int


@dataclass(frozen=True, slots=True)
class _End:
    """The answer has no more events."""


_Item: TypeAlias = Numbered | Heartbeat | _End | BaseException


def joined(first: Numbered, second: Numbered) -> Numbered | None:
    """Join two deltas of a kind; None if they are something else, or too long together."""
    event = _joined_events(first.event, second.event)
    return None if event is None else Numbered(event, second.number)


def _joined_events(first: Event, second: Event) -> Event | None:
    if type(first) is not type(second):
        return None
    match first, second:
        case (TextDelta(one), TextDelta(two)) if len(one) + len(two) <= MAX_JOINED:
            return TextDelta(one + two)
        case (ThinkingDelta(one), ThinkingDelta(two)) if len(one) + len(two) <= MAX_JOINED:
            return ThinkingDelta(one + two)
        case (ToolCallDelta(index, one), ToolCallDelta(other, two)) if (
            index == other and len(one) + len(two) <= MAX_JOINED
        ):
            return ToolCallDelta(index, one + two)
    return None


def _joined(first: _Item, second: _Item) -> _Item | None:
    if isinstance(first, Numbered) and isinstance(second, Numbered):
        return joined(first, second)
    return None


class Mailbox(Generic[_T]):
    """Holds one item until it is taken; others wait for their turn, or are joined with it.

    So what comes while nothing waits is taken at once, and nothing overtakes anything. Within the
    `with` block, `heartbeat` is put in whenever `get` has waited for `silence` seconds.
    """

    def __init__(
        self, join: Callable[[_T, _T], _T | None], *, silence: float, heartbeat: _T
    ) -> None:
        """`join` returns the first and the second item as one, or None."""
        self._join = join
        self._silence = silence
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._item: deque[_T] = deque()
        self._putting: deque[tuple[_T, asyncio.Future[None]]] = deque()
        self._getting: asyncio.Future[None] | None = None
        self._since = 0.0
        """When `get` began to wait, if it does."""
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._timer = self._loop.call_later(self._silence, self._check)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def put(self, item: _T) -> None:
        """Add an item; wait for room if it can be joined with none."""
        if not self._item:
            self._arrived(item)
            return
        if not self._putting:
            waiting = self._item[0]
            both = item if waiting is self._heartbeat else self._join(waiting, item)
            if both is not None:
                self._item[0] = both
                return
        entry = (item, self._loop.create_future())
        self._putting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._putting:
                self._putting.remove(entry)
            raise

    async def get(self) -> _T:
        """Take the item; wait for one if there is none."""
        if not self._item:
            self._since = self._loop.time()
            self._getting = self._loop.create_future()
            try:
                await self._getting
            finally:
                self._getting = None
        item = self._item.popleft()
        while self._putting and not self._item:
            following, room = self._putting.popleft()
            if not room.done():
                self._item.append(following)
                room.set_result(None)
        return item

    def _arrived(self, item: _T) -> None:
        self._item.append(item)
        if self._getting is not None and not self._getting.done():
            self._getting.set_result(None)

    def _check(self) -> None:
        # One timer for the whole stream, not one for each token.
        now = self._loop.time()
        due = (now if self._getting is None else self._since) + self._silence
        if due <= now:
            if not self._item:
                self._arrived(self._heartbeat)
            due = now + self._silence
        self._timer = self._loop.call_at(due, self._check)


async def numbered(
    events: AsyncGenerator[Event, None],
) -> AsyncGenerator[tuple[int, Event], None]:
    """Yield the events of an answer with their sequence numbers. Close it to close `events`."""
    number = 0
    async with aclosing(events):
        async for event in events:
            number += 1
            yield number, event


async def sendable_events(
    events: AsyncGenerator[tuple[int, Event], None], heartbeat_seconds: float
) -> AsyncGenerator[Numbered | Heartbeat, None]:
    """Yield the events of an answer, and a heartbeat after each `heartbeat_seconds` of silence.

    The events, which have their sequence numbers, are read meanwhile, so that those that wait to be
    taken can be joined. Close the generator to close `events`, within that.
    """

    async def read() -> None:
        try:
            async with aclosing(events):
                async for number, event in events:
                    await mailbox.put(Numbered(event, number))
            await mailbox.put(_End())
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled():
                raise
            await mailbox.put(error)

    with Mailbox[_Item](_joined, silence=heartbeat_seconds, heartbeat=SILENCE) as mailbox:
        reading = asyncio.create_task(read())
        try:
            while not isinstance(item := await mailbox.get(), _End):
                if isinstance(item, BaseException):
                    try:
                        raise item
                    finally:
                        # Its traceback has this frame: a cycle, which would keep the request.
                        del item
                yield item
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
