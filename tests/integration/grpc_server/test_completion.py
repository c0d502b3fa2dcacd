"""CompletionService over a real connection: what a caller sees of an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import groupby
from typing import Any

import grpc
import pytest

from bridge.core.contract import errors
from bridge.core.contract.events import (
    Event,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.request import CompletionRequest, TextPart
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.integration.grpc_server.by_hand import HEADERS, by_hand, prefixed
from tests.integration.grpc_server.by_hand import call as call_of
from tests.integration.grpc_server.conftest import Serve
from tests.support.fakes import (
    STARTED,
    STOP,
    FakeService,
    Gate,
    for_ever_after_the_first_event,
    for_ever_before_the_first_event,
    script_of,
)
from tests.support.grpc.client import question, read, user
from tests.support.grpc.details import Details, details_in, details_of
from tests.support.waiting import soon

HELLO = ["started", "text_delta", "usage", "finished"]
SECRET = "the text of an exception"


def kinds(responses: Iterable[pb.CompleteResponse]) -> list[str | None]:
    """The kinds of events; of deltas, any number may be joined."""
    return [kind for kind, _ in groupby(r.event.WhichOneof("event") for r in responses)]


async def collect(
    channel: grpc.aio.Channel, request: pb.CompleteRequest | None = None
) -> list[pb.CompleteResponse]:
    call = pb_grpc.CompletionServiceStub(channel).Complete(request or question())
    return [response async for response in call]


async def failure(
    channel: grpc.aio.Channel, request: pb.CompleteRequest | None = None
) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await soon(collect(channel, request))
    return caught.value


def rich_details(error: grpc.aio.AioRpcError) -> Details:
    """Read the details as a client does, with the official helper."""
    found = details_in(error.code(), error.details(), error.trailing_metadata())
    assert found is not None
    return found


async def test_an_answer_comes_in_order(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    call = pb_grpc.CompletionServiceStub(channel).Complete(question(), timeout=60)
    responses = [response async for response in call]
    assert kinds(responses) == HELLO
    assert "".join(response.event.text_delta.text for response in responses) == "Hello"
    assert responses[-1].event.finished.usage == responses[-2].event.usage
    (request,) = service.requests
    assert request.api == "grpc"
    assert request.timeout is not None
    # gRPC rounds it up on the wire.
    assert 0 < request.timeout < 61
    assert request.request_id.startswith("req_")
    assert responses[0].event.started.request_id == request.request_id
    assert ("x-request-id", request.request_id) in tuple(await call.initial_metadata())


async def test_no_deadline_is_no_timeout(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    await collect(channel)
    assert service.requests[0].timeout is None


async def test_events_are_sent_as_they_come(serve: Serve, service: FakeService) -> None:
    more = asyncio.Event()

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        yield STARTED
        yield TextDelta("first")
        await more.wait()
        yield STOP

    service.script = script
    _, channel = await serve()
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)
    assert (await read(call)).event.text_delta.text == "first"
    more.set()
    assert (await read(call)).event.WhichOneof("event") == "usage"


async def test_the_sync_stub_works_from_a_thread(serve: Serve) -> None:
    server, _ = await serve()

    def ask() -> list[str | None]:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            return kinds(pb_grpc.CompletionServiceStub(channel).Complete(question()))

    assert await soon(asyncio.to_thread(ask)) == HELLO


async def test_a_bad_request_is_never_answered(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    error = await failure(channel, pb.CompleteRequest())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rich_details(error).info.metadata["field"] == "completion.messages"
    assert service.requests == []


@pytest.mark.parametrize("after", [(), (STARTED, TextDelta("x"))], ids=["before", "mid-stream"])
async def test_an_error_is_the_same_before_the_first_event_and_after(
    serve: Serve, service: FakeService, after: tuple[Event, ...]
) -> None:
    service.script = script_of(*after, errors.QueueFullError("Too many wait.", retry_after=2))
    _, channel = await serve()
    error = await failure(channel)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "Too many wait."
    assert rich_details(error).info.reason == "QUEUE_FULL"
    assert rich_details(error).request_id == service.requests[0].request_id
    assert service.closed.is_set()


@pytest.mark.parametrize("after", [(), (STARTED, TextDelta("x"))], ids=["before", "mid-stream"])
@pytest.mark.parametrize(
    "fault",
    [
        ValueError(SECRET),
        asyncio.CancelledError(SECRET),
        ExceptionGroup(SECRET, [ValueError(SECRET)]),
        grpc.aio.UsageError(SECRET),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_fault_is_opaque_and_logged(
    serve: Serve,
    service: FakeService,
    caplog: pytest.LogCaptureFixture,
    fault: BaseException,
    after: tuple[Event, ...],
) -> None:
    service.script = script_of(*after, fault)
    _, channel = await serve()
    error = await failure(channel)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in str(error.details())
    assert SECRET not in str(error.trailing_metadata())
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert service.requests[0].request_id in record.getMessage()
    assert rich_details(error).request_id == service.requests[0].request_id
    assert type(fault).__name__ in record.getMessage()
    assert SECRET not in caplog.text


async def test_bytes_that_are_no_request(serve: Serve) -> None:
    _, channel = await serve()
    complete: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
    complete = channel.unary_stream("/bridge.v1.CompletionService/Complete")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await soon(complete(b"\xff\xff").read())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rich_details(caught.value).info.reason == "MALFORMED_MESSAGE"


async def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    _, channel = await serve()
    guess: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    guess = channel.unary_unary("/bridge.v1.CompletionService/Guess")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await soon(guess(b""))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_cancelling_before_the_first_event_closes_the_answer(
    serve: Serve, service: FakeService
) -> None:
    service.script = for_ever_before_the_first_event
    _, channel = await serve()
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    await soon(service.entered.wait())
    call.cancel()
    await service.until_closed()


async def test_cancelling_mid_stream_closes_the_answer(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_after_the_first_event
    _, channel = await serve()
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)
    call.cancel()
    await service.until_closed()


async def test_cancelling_during_a_write_closes_the_answer_within_the_call(
    serve: Serve, service: FakeService
) -> None:
    closing = asyncio.Event()
    may_end = asyncio.Event()

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(flood(request)) as events:
                async for event in events:
                    yield event
        finally:
            closing.set()
            await may_end.wait()

    service.script = script
    server, channel = await serve()
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)
    call.cancel()
    await soon(closing.wait())
    # Left to the garbage collector, it would be closed too, but at some time after the call.
    assert server.running == 1
    may_end.set()
    await service.until_closed()


async def test_a_vanished_client_closes_the_answer(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_after_the_first_event
    server, _ = await serve()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = pb_grpc.CompletionServiceStub(channel).Complete(question())
        await read(call)
    await service.until_closed()


@pytest.mark.parametrize(
    "script",
    [for_ever_before_the_first_event, for_ever_after_the_first_event],
    ids=["before the first event", "after it"],
)
async def test_a_deadline_ends_the_call_and_closes_the_answer(
    serve: Serve, service: FakeService, script: object
) -> None:
    service.script = script  # type: ignore[assignment]
    _, channel = await serve()
    # On a busy machine it may be over before the call has come in.
    for seconds in (0.3, 3, 30):
        call = pb_grpc.CompletionServiceStub(channel).Complete(question(), timeout=seconds)
        assert await soon(call.code()) is grpc.StatusCode.DEADLINE_EXCEEDED
        if service.requests:
            break
    await service.until_closed()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (
            {"tools": [pb.Tool(name="a b"), pb.Tool(name="a b c")], "max_output_tokens": 0},
            ["tools[0].name", "tools[1].name", "max_output_tokens"],
        ),
        (
            {"effort": 99, "sampling": pb.Sampling(temperature=2), "max_output_tokens": 0},
            ["effort", "sampling.temperature", "max_output_tokens"],
        ),
    ],
    ids=["rules", "a value that cannot be decoded, and rules"],
)
async def test_all_that_is_wrong_with_a_request_is_in_its_status(
    serve: Serve, fields: dict[str, object], named: list[str]
) -> None:
    _, channel = await serve()
    call = pb_grpc.CompletionServiceStub(channel).Complete(question(**fields))
    assert await soon(call.code()) is grpc.StatusCode.INVALID_ARGUMENT
    details = await details_of(call)
    fields_named = [f"completion.{name}" for name in named]
    assert details.fields == fields_named
    assert details.info.metadata["field"] == fields_named[0]


@pytest.mark.parametrize(
    ("timeout", "code"),
    [("1n", grpc.StatusCode.DEADLINE_EXCEEDED), ("soon", grpc.StatusCode.INTERNAL)],
    ids=["over when it comes", "not a time"],
)
async def test_a_deadline_that_cannot_be_kept_is_refused_by_grpc(
    serve: Serve, service: FakeService, timeout: str, code: grpc.StatusCode
) -> None:
    service.script = for_ever_before_the_first_event
    server, _ = await serve()
    method = "/bridge.v1.CompletionService/Complete"
    async with by_hand(server.port) as client:
        client.writer.write(call_of(1, method, prefixed(question()), {"grpc-timeout": timeout}))
        _, _, trailers = await client.until(HEADERS)
    number = str(code.value[0])
    assert b"grpc-status" + bytes([len(number)]) + number.encode() in trailers
    # By the time it comes to the service, it may not be over, by a little.
    if service.requests:
        await service.until_closed()


async def drained(call: grpc.aio.UnaryStreamCall[Any, pb.CompleteResponse]) -> None:
    while isinstance(await call.read(), pb.CompleteResponse):
        pass


async def flood(request: CompletionRequest) -> AsyncGenerator[Event, None]:
    yield STARTED
    while True:
        yield TextDelta("x" * 100_000)


async def test_a_slow_reader_loses_nothing(serve: Serve, service: FakeService) -> None:
    count = 400
    done = asyncio.Event()

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        yield STARTED
        for number in range(count):
            yield TextDelta(f"{number} " + "x" * 100_000)
        done.set()
        yield STOP

    service.script = script
    _, channel = await serve()
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)
    numbers: list[int] = []
    while isinstance(response := await soon(call.read()), pb.CompleteResponse):
        if not numbers:
            # Far more is to come than the connection holds: the writer had to wait.
            assert not done.is_set()
        if response.event.WhichOneof("event") == "text_delta":
            numbers.append(int(response.event.text_delta.text.split()[0]))
    assert numbers == list(range(count))
    assert await call.code() is grpc.StatusCode.OK


async def test_a_reader_that_stalls_is_given_up(serve: Serve, service: FakeService) -> None:
    service.script = flood
    _, channel = await serve(stall_seconds=0.2)
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)
    await service.until_closed()
    rest = asyncio.create_task(drained(call))
    assert await soon(call.code()) is grpc.StatusCode.CANCELLED
    assert "did not read" in await call.details()
    with pytest.raises(grpc.aio.AioRpcError):
        await rest


async def test_silence_is_not_a_stall(serve: Serve, service: FakeService) -> None:
    more = asyncio.Event()

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        yield STARTED
        await more.wait()
        yield STOP

    service.script = script
    _, channel = await serve(stall_seconds=0.01)
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    await read(call)
    asyncio.get_running_loop().call_later(0.1, more.set)
    assert (await read(call)).event.WhichOneof("event") == "usage"


RETRYING = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 3,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.1s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                },
            }
        ]
    }
)


async def test_a_client_may_retry_by_policy_what_failed_before_the_first_event(
    serve: Serve, service: FakeService
) -> None:
    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        if len(service.requests) == 1:
            raise errors.UnavailableError("Overloaded.", retry_after=0.01)
        yield STARTED
        yield STOP

    service.script = script
    _, channel = await serve(channel_options=[("grpc.service_config", RETRYING)])
    assert len(await soon(collect(channel))) == 3
    assert len(service.requests) == 2


async def test_a_plan_limit_is_not_retried_by_policy(serve: Serve, service: FakeService) -> None:
    service.script = script_of(errors.PlanLimitError("Used up.", retry_after=60))
    _, channel = await serve(channel_options=[("grpc.service_config", RETRYING)])
    assert (await failure(channel)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(service.requests) == 1


async def test_message_limit(serve: Serve) -> None:
    _, channel = await serve(max_message_bytes=10_000)
    await collect(channel, question(system="x" * 9_000))
    error = await failure(channel, question(system="x" * 20_000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_request_may_be_larger_than_grpcs_own_limit(
    serve: Serve, service: FakeService
) -> None:
    _, channel = await serve()
    await collect(channel, question(messages=[user("x" * 8_000_000)]))
    assert service.requests[0].messages[0].parts == (TextPart("x" * 8_000_000),)


async def test_a_request_may_be_gzipped_and_its_limit_counts_what_it_unpacks_to(
    serve: Serve, service: FakeService
) -> None:
    _, channel = await serve(max_message_bytes=1_000_000)
    stub = pb_grpc.CompletionServiceStub(channel)
    gzip = grpc.Compression.Gzip
    call = stub.Complete(question(system="x" * 900_000), compression=gzip)
    assert kinds([response async for response in call]) == HELLO
    assert service.requests[0].system == "x" * 900_000
    bomb = stub.Complete(question(system="x" * 50_000_000), compression=gzip)
    assert await soon(bomb.code()) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_deltas_that_wait_for_the_client_are_joined(
    serve: Serve, service: FakeService
) -> None:
    """Those of a kind, and never across another event."""
    few: list[Event] = [TextDelta("a"), TextDelta("b"), ThinkingDelta("c"), ThinkingDelta("d")]
    calls: list[Event] = [ToolCallStart(0, "1", "t"), ToolCallDelta(0, "{"), ToolCallDelta(0, "}")]
    calls += [ToolCallStart(1, "2", "t"), ToolCallDelta(1, "{"), ToolCallDelta(1, "}")]
    # All of it is there at once.
    service.script = script_of(STARTED, *few, TextDelta("e"), *calls, STOP)
    _, channel = await serve()
    responses = await soon(collect(channel))
    assert kinds(responses) == [
        "started",
        "text_delta",
        "thinking_delta",
        "text_delta",
        *["tool_call_start", "tool_call_delta"] * 2,
        "usage",
        "finished",
    ]
    # With the usage, there were 14 events.
    assert len(responses) < 14
    assert "".join(r.event.text_delta.text for r in responses) == "abe"
    assert "".join(r.event.thinking_delta.text for r in responses) == "cd"
    assert "".join(r.event.tool_call_delta.arguments_json for r in responses) == "{}{}"


async def test_heartbeats_are_sent_in_silence(serve: Serve, service: FakeService) -> None:
    before, within = Gate(), Gate()
    service.script = script_of(before, STARTED, within, STOP)
    _, channel = await serve(heartbeat_seconds=0.02)
    call = pb_grpc.CompletionServiceStub(channel).Complete(question())
    for gate, following in ((before, "started"), (within, "usage")):
        for _ in range(3):
            assert (await read(call)).event.WhichOneof("event") == "heartbeat"
        gate.opened.set()
        while (kind := (await read(call)).event.WhichOneof("event")) == "heartbeat":
            pass
        assert kind == following
