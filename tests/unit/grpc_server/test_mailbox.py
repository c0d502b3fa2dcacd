"""What waits for a client. Events of the loop alone, no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from bridge.core.contract.events import (
    Event,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.grpc_server.mailbox import (
    MAX_JOINED,
    SILENCE,
    Heartbeat,
    Mailbox,
    Numbered,
    joined,
    numbered,
    sendable_events,
)
from tests.support.fakes import STARTED, STOP
from tests.support.waiting import soon

NEVER = 3600.0


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (TextDelta("a"), TextDelta("b"), TextDelta("ab")),
        (ThinkingDelta("a"), ThinkingDelta("b"), ThinkingDelta("ab")),
        (ToolCallDelta(1, "a"), ToolCallDelta(1, "b"), ToolCallDelta(1, "ab")),
        (ToolCallDelta(0, "a"), ToolCallDelta(1, "b"), None),
        (TextDelta("a"), ThinkingDelta("b"), None),
        (ToolCallStart(0, "1", "a"), ToolCallStart(1, "2", "b"), None),
        (STARTED, TextDelta("a"), None),
        (TextDelta("a"), STOP, None),
        (TextDelta("a" * MAX_JOINED), TextDelta("b"), None),
    ],
)
def test_what_is_joined(first: Event, second: Event, both: Event | None) -> None:
    expected = None if both is None else Numbered(both, 8)
    assert joined(Numbered(first, 7), Numbered(second, 8)) == expected


def mailbox(silence: float = NEVER) -> Mailbox[Event | Heartbeat]:
    return Mailbox(_both, silence=silence, heartbeat=SILENCE)


def _both(first: Event | Heartbeat, second: Event | Heartbeat) -> Event | None:
    if isinstance(first, TextDelta) and isinstance(second, TextDelta):
        return TextDelta(first.text + second.text)
    return None


async def test_what_comes_while_nothing_waits_is_taken_at_once() -> None:
    with mailbox() as box:
        for text in "abc":
            getting = asyncio.ensure_future(box.get())
            await asyncio.sleep(0)
            await box.put(TextDelta(text))
            assert await soon(getting) == TextDelta(text)


async def test_items_of_several_senders_keep_their_order() -> None:
    with mailbox() as box:
        await box.put(TextDelta("a"))
        await box.put(TextDelta("b"))
        other = asyncio.ensure_future(box.put(STARTED))
        await asyncio.sleep(0)
        # It is not joined past what waits already.
        last = asyncio.ensure_future(box.put(TextDelta("c")))
        await asyncio.sleep(0)
        assert not other.done()
        assert [await box.get() for _ in range(3)] == [TextDelta("ab"), STARTED, TextDelta("c")]
        await soon(asyncio.gather(other, last))


async def test_a_put_that_is_cancelled_leaves_nothing() -> None:
    with mailbox() as box:
        await box.put(STARTED)
        putting = asyncio.ensure_future(box.put(STOP))
        await asyncio.sleep(0)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        assert await box.get() == STARTED
        await box.put(TextDelta("a"))
        assert await box.get() == TextDelta("a")


async def test_heartbeats_come_while_something_is_waited_for() -> None:
    with mailbox(0.01) as box:
        assert [await soon(box.get()) for _ in range(3)] == [SILENCE] * 3
        # Not while nobody takes anything: it would only pile up.
        await asyncio.sleep(0.05)
        await box.put(STARTED)
        assert await soon(box.get()) == STARTED


async def test_an_item_takes_the_place_of_a_heartbeat_that_was_not_taken() -> None:
    with mailbox() as box:
        await box.put(SILENCE)
        await box.put(STARTED)
        assert await box.get() == STARTED


async def test_the_events_of_an_answer_are_closed_within_it() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[Event, None]:
        try:
            yield STARTED
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.set()

    async with aclosing(sendable_events(numbered(endless()), NEVER)) as events:
        assert await soon(anext(events)) == Numbered(STARTED, 1)
    assert closed.is_set()


async def test_the_error_of_an_answer_comes_after_its_events() -> None:
    async def failing() -> AsyncGenerator[Event, None]:
        yield STARTED
        yield TextDelta("a")
        raise ValueError("b")

    async with aclosing(sendable_events(numbered(failing()), NEVER)) as events:
        assert await anext(events) == Numbered(STARTED, 1)
        assert await anext(events) == Numbered(TextDelta("a"), 2)
        with pytest.raises(ValueError, match="b"):
            await anext(events)


async def test_a_reader_that_takes_nothing_holds_up_the_answer() -> None:
    made = 0

    async def flood() -> AsyncGenerator[Event, None]:
        nonlocal made
        while True:
            made += 1
            yield TextDelta("x" * 1024)

    async with aclosing(sendable_events(numbered(flood()), NEVER)) as events:
        await soon(anext(events))
        for _ in range(100):
            await asyncio.sleep(0)
        # One that is being sent, one that waits, and the first that did not fit in.
        assert made <= 3 * MAX_JOINED / 1024
