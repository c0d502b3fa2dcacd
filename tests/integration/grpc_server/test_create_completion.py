"""CompletionService.CreateCompletion over a real connection, on a scripted core."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from bridge.core.contract import errors
from bridge.core.contract.events import Event, TextDelta
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.integration.grpc_server.conftest import Serve
from tests.support.fakes import (
    CALLS,
    STARTED,
    FakeService,
    Script,
    for_ever_after_the_first_event,
    for_ever_before_the_first_event,
    script_of,
)
from tests.support.grpc.client import create, question, whole
from tests.support.waiting import soon


async def test_an_answer_comes_in_one_message(serve: Serve, service: FakeService) -> None:
    service.script = script_of(*CALLS)
    _, channel = await serve()
    request = whole(question(model="opus", include_thinking=True))
    metadata = (("x-bridge-idle-timeout", "5"),)
    call = pb_grpc.CompletionServiceStub(channel).CreateCompletion(
        request, timeout=60, metadata=metadata
    )
    response = await soon(call)
    assert [call.name for call in response.tool_calls] == ["weather", "time"]
    (asked,) = service.requests
    assert (asked.model, asked.api, asked.idle_timeout) == ("opus", "grpc", 5)
    assert asked.timeout is not None
    assert 0 < asked.timeout < 61
    assert response.request_id == asked.request_id
    assert ("x-request-id", asked.request_id) in tuple(await call.initial_metadata())


async def test_it_can_be_sent_back(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    first = await create(channel, question())
    assert first.text == "Hello"
    said = pb.Message(role=pb.ROLE_ASSISTANT, parts=[pb.Part(text=first.text)])
    more = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="And?")])
    request = question()
    request.completion.messages.extend((said, more))
    assert (await create(channel, request)).finish == "stop"


@pytest.mark.parametrize("after", [(), (STARTED, TextDelta("x"))], ids=["before", "mid-answer"])
async def test_an_error_is_a_status_with_details(
    serve: Serve, service: FakeService, after: tuple[Event, ...]
) -> None:
    service.script = script_of(*after, errors.QueueFullError("Too many wait.", retry_after=2))
    _, channel = await serve()
    failure = (await create(channel, question())).failure
    assert failure is not None
    assert (failure.status, failure.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert failure.retry_after == 2


async def test_an_answer_without_an_end_is_an_error(serve: Serve, service: FakeService) -> None:
    service.script = script_of(STARTED, TextDelta("Hel"))
    _, channel = await serve()
    failure = (await create(channel, question())).failure
    assert failure is not None
    assert failure.status == "UNAVAILABLE"


async def test_a_bad_request_names_its_field(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    failure = (await create(channel, question(tools=[pb.Tool(name="a b")]))).failure
    assert failure is not None
    assert (failure.status, failure.field) == (
        "INVALID_ARGUMENT",
        "completion.tools[0].name",
    )


@pytest.mark.parametrize(
    "script",
    [for_ever_before_the_first_event, for_ever_after_the_first_event],
    ids=["before the first event", "after it"],
)
async def test_a_client_that_cancels_closes_the_answer(
    serve: Serve, service: FakeService, script: Script
) -> None:
    service.script = script
    server, channel = await serve()
    call = pb_grpc.CompletionServiceStub(channel).CreateCompletion(whole())
    # It is sent when it is awaited.
    waiting = asyncio.ensure_future(call)
    await soon(service.entered.wait())
    waiting.cancel()
    call.cancel()
    await service.until_closed()
    await soon(server.stop())
    assert server.running == 0


async def test_a_drain_lets_it_end_and_then_ends_it(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_after_the_first_event
    server, channel = await serve()
    waiting = asyncio.create_task(create(channel, question()))
    await soon(service.entered.wait())
    await soon(server.drain(0.1))
    failure = (await soon(waiting)).failure
    assert failure is not None
    assert (failure.status, failure.reason) == ("UNAVAILABLE", "DRAINING")


async def test_a_deadline_ends_it(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_before_the_first_event
    _, channel = await serve()
    # On a busy machine it may be over before the call has come in.
    for seconds in (0.3, 3, 30):
        call = pb_grpc.CompletionServiceStub(channel).CreateCompletion(whole(), timeout=seconds)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await soon(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if service.requests:
            break
    await service.until_closed()
