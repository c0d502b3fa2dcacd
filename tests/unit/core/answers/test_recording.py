"""One detached answer: its sequence numbers, its readers, its end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from bridge.core.answers.recording import Recording, size_of
from bridge.core.contract.errors import InvalidRequestError, UnavailableError
from bridge.core.contract.events import Citation, Event, Finished, FinishReason, Started, TextDelta
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.usage import Usage
from tests.support.waiting import soon

EVENTS: tuple[Event, ...] = (
    Started("claude-opus-5"),
    TextDelta("Hel"),
    TextDelta("lo"),
    Finished(FinishReason.STOP, Usage()),
)
NUMBERED = list(enumerate(EVENTS, start=1))


def recording() -> Recording:
    return Recording(CompletionRequest((), request_id="req_1", owner="laptop"), 17.0, None)


async def read(answer: Recording, after: int = 0) -> list[tuple[int, Event]]:
    return [numbered async for numbered in answer.events(after)]


async def test_a_reader_gets_what_was_recorded_and_then_what_comes() -> None:
    answer = recording()
    answer.add(EVENTS[0])
    answer.add(EVENTS[1])
    async with aclosing(answer.events()) as events:
        assert [await soon(anext(events)) for _ in range(2)] == NUMBERED[:2]
        third = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not third.done()
        answer.add(EVENTS[2])
        assert await soon(third) == NUMBERED[2]
        answer.add(EVENTS[3])
        answer.end(None)
        assert [numbered async for numbered in events] == NUMBERED[3:]


@pytest.mark.parametrize("after", range(5))
async def test_a_reader_continues_after_a_number(after: int) -> None:
    answer = recording()
    for event in EVENTS:
        answer.add(event)
    answer.end(None)
    assert await soon(read(answer, after)) == NUMBERED[after:]


@pytest.mark.parametrize(("after", "said"), [(-1, "at least 0"), (3, "had 2 events")])
async def test_a_number_that_was_never_sent_is_an_error(after: int, said: str) -> None:
    answer = recording()
    answer.add(EVENTS[0])
    answer.add(EVENTS[1])
    with pytest.raises(InvalidRequestError, match=said) as error:
        await soon(read(answer, after))
    assert error.value.field == "after_sequence_number"


async def test_several_readers_read_at_once_and_leave_as_they_like() -> None:
    answer = recording()
    stays = asyncio.ensure_future(read(answer))
    leaves = asyncio.ensure_future(read(answer))
    for number, event in enumerate(EVENTS):
        await asyncio.sleep(0)
        if number == 2:
            leaves.cancel()
        answer.add(event)
    answer.end(None)
    assert await soon(stays) == NUMBERED
    assert await soon(read(answer)) == NUMBERED


async def test_every_reader_gets_the_error_after_the_events() -> None:
    answer = recording()
    answer.add(EVENTS[0])
    waiting = asyncio.ensure_future(read(answer))
    await asyncio.sleep(0)
    answer.end(UnavailableError("The API is overloaded."))
    for reading in (waiting, asyncio.ensure_future(read(answer))):
        with pytest.raises(UnavailableError, match="overloaded"):
            await soon(reading)
    assert list(answer.recorded) == [EVENTS[0]]
    assert isinstance(answer.error, UnavailableError)


def test_the_size_counts_text_and_events() -> None:
    answer = recording()
    sizes = [answer.add(TextDelta("x" * 1000)), answer.add(TextDelta(""))]
    assert sizes[0] - sizes[1] == 1000
    assert sizes[1] > 64
    assert answer.size == sum(sizes)
    assert size_of(TextDelta("\N{SNOWMAN}" * 1000)) > 2000
    assert size_of(Citation({"cited_text": "x" * 1000})) > 1000


async def test_a_long_answer_is_read_again_in_steps() -> None:
    """Others are served in between."""
    answer = recording()
    for _ in range(2_000):
        answer.add(TextDelta("x"))
    answer.end(None)
    reading = asyncio.ensure_future(read(answer))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 2_000 / 250
