"""Answers by their ids, through the real CLI: detached, attached to, cancelled, paid for once."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from typing import Any

import pytest

from bridge.core.contract.errors import (
    ModelNotFoundError,
    RequestCancelledError,
    RequestIdInUseError,
    UnavailableError,
)
from bridge.core.contract.events import Event, Finished, Started, TextDelta
from bridge.core.contract.request import CompletionRequest
from tests.support.harness import RunningEngine, sim, user
from tests.support.waiting import soon

ENDLESS = sim(endless=True, delay_ms=20)
FAILS = sim(error={"status": 500, "message": "no"})


def asked(engine: RunningEngine, text: str, **fields: Any) -> CompletionRequest:
    return CompletionRequest(
        (user(text),), request_id=f"req_{uuid.uuid4().hex}", owner=engine.caller, **fields
    )


async def all_of(engine: RunningEngine, request: CompletionRequest) -> list[Event]:
    return [event async for event in engine.engine.complete(request)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_an_answer_that_is_streamed_is_cancelled_by_its_id(engine: RunningEngine) -> None:
    request = asked(engine, ENDLESS)
    async with aclosing(engine.engine.complete(request)) as events:
        while not isinstance(await soon(anext(events)), TextDelta):
            pass
        waiting = asyncio.ensure_future(all_left(events))
        await asyncio.sleep(0)
        await engine.engine.cancel(engine.caller, request.request_id)
        with pytest.raises(RequestCancelledError):
            await soon(waiting)
    await soon(engine.settled())
    assert engine.records()[-1]["error"] == "REQUEST_CANCELLED"


async def all_left(events: Any) -> list[Event]:
    return [event async for event in events]


async def test_a_detached_answer_runs_without_a_reader_and_is_read_by_several(
    engine: RunningEngine,
) -> None:
    request = asked(engine, sim(tokens=50, delay_ms=2))
    answer = await soon(engine.engine.detach(request))

    async def read(after: int = 0) -> list[tuple[int, Event]]:
        found = await engine.engine.attach(engine.caller, request.request_id)
        return [each async for each in found.events(after)]

    one, two = await soon(asyncio.gather(read(), read()))
    assert one == two
    assert [number for number, _ in one] == list(range(1, len(one) + 1))
    assert isinstance(one[0][1], Started)
    assert isinstance(one[-1][1], Finished)
    assert text_of([event for _, event in one]).endswith("w49 ")
    assert await soon(read(10)) == one[10:]
    assert answer.ended
    await soon(engine.settled())
    lines = [line for line in engine.records() if line["request_id"] == request.request_id]
    assert [line["finish"] for line in lines] == ["stop"]


async def test_a_detached_answer_is_cancelled(engine: RunningEngine) -> None:
    answer = await soon(engine.engine.detach(asked(engine, ENDLESS)))
    async with aclosing(answer.events()) as events:
        while not isinstance((await soon(anext(events)))[1], TextDelta):
            pass
        await soon(engine.engine.cancel(engine.caller, answer.request_id))
        with pytest.raises(RequestCancelledError):
            await soon(all_left(events))
    await soon(engine.settled())


@pytest.mark.parametrize("detached", [False, True])
async def test_a_repeated_request_is_not_paid_for_again(
    engine: RunningEngine, detached: bool
) -> None:
    mark = uuid.uuid4().hex

    def again() -> CompletionRequest:
        return asked(engine, f"{mark} {sim(text='Once.')}", client_request_id=mark)

    if detached:
        answers = [await soon(engine.engine.detach(again())) for _ in range(3)]
        assert len({id(answer) for answer in answers}) == 1
        events = [event async for _, event in answers[0].events()]
        assert text_of(events) == "Once."
    else:
        assert text_of(await soon(all_of(engine, again()))) == "Once."
        for _ in range(2):
            with pytest.raises(RequestIdInUseError):
                await soon(all_of(engine, again()))
    assert len(engine.upstream(mark)) == 1


async def test_an_id_is_free_after_an_upstream_failure_without_an_answer(
    engine: RunningEngine,
) -> None:
    mark = uuid.uuid4().hex
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await soon(all_of(engine, asked(engine, FAILS, client_request_id=mark)))
    answer = await soon(all_of(engine, asked(engine, sim(text="Now."), client_request_id=mark)))
    assert text_of(answer) == "Now."


async def test_what_is_refused_before_it_waits_is_an_error_at_once(engine: RunningEngine) -> None:
    request = asked(engine, "Hello?", model="opsu")
    with pytest.raises(ModelNotFoundError):
        await soon(engine.engine.detach(request))
