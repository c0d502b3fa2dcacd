"""CompletionService.Converse over a real connection, on a scripted core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import replace

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from bridge.core.contract import errors
from bridge.core.contract.events import (
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.request import (
    CompletionRequest,
    Effort,
    OutputKind,
    Role,
    TextPart,
    ToolMode,
)
from bridge.core.contract.usage import Usage
from bridge.core.telemetry import Occupancy
from bridge.v1 import completion_pb2 as pb
from tests.integration.grpc_server.conftest import Serve
from tests.support.fakes import (
    STARTED,
    STOP,
    FakeService,
    Gate,
    for_ever_after_the_first_event,
    for_ever_before_the_first_event,
    hello,
    script_of,
)
from tests.support.grpc.client import Talk
from tests.support.grpc.details import Details, details_of
from tests.support.waiting import soon

HELLO = ["started", "text_delta", "usage", "finished"]
ADD = pb.Tool(name="add")


async def calling(request: CompletionRequest) -> AsyncGenerator[Event, None]:
    """Call two tools, then answer with their results."""
    last = request.messages[-1].parts
    yield STARTED
    if isinstance(last[0], TextPart):
        for index, call_id in enumerate(("a", "b")):
            yield ToolCallStart(index, call_id, "add")
            yield ToolCallDelta(index, "{}")
        yield Finished(FinishReason.TOOL_CALLS, Usage())
    else:
        yield TextDelta(" ".join(part.content[0].text for part in last))  # type: ignore[union-attr]
        yield STOP


async def slow(request: CompletionRequest) -> AsyncGenerator[Event, None]:
    """Begin to answer the first turn, and go no further; answer the others."""
    yield STARTED
    yield TextDelta("Half an")
    if len(request.messages) == 1:
        await asyncio.Event().wait()
    yield STOP


async def ended(talk: Talk) -> Details:
    """The details of the error in which a call ends."""
    await talk.code()
    return await details_of(talk.call)


async def test_turns_follow_each_other_on_one_call(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    talk = await Talk(channel, timeout=60).open(model="opus", system="Be brief.")
    first, second = await talk.ask("one"), await talk.ask("two")
    assert first.events == second.events == HELLO
    assert (first.text, first.finish) == ("Hello", "stop")
    assert await talk.end() is grpc.StatusCode.OK
    one, two = service.requests
    assert (one.model, one.system, one.api) == ("opus", "Be brief.", "grpc")
    assert [(message.role, message.parts) for message in two.messages] == [
        (Role.USER, (TextPart("one"),)),
        (Role.ASSISTANT, (TextPart("Hello"),)),
        (Role.USER, (TextPart("two"),)),
    ]
    assert two.timeout is not None
    # gRPC rounds it up on the wire.
    assert 0 < two.timeout < 61


async def test_each_turn_has_an_id_and_the_first_that_of_the_call(
    serve: Serve, service: FakeService
) -> None:
    _, channel = await serve()
    talk = await Talk(channel).open()
    turns = [await talk.ask("one"), await talk.ask("two")]
    ids = [turn.request_id for turn in turns]
    assert len(set(ids)) == 2
    assert [request.request_id for request in service.requests] == ids
    assert ("x-request-id", ids[0]) in tuple(await talk.call.initial_metadata())


async def test_tool_results_come_up_the_same_call(serve: Serve, service: FakeService) -> None:
    service.script = calling
    _, channel = await serve()
    talk = await Talk(channel).open(tools=[ADD])
    turn = await talk.ask("Go.")
    assert turn.finish == "tool_calls"
    assert [call.id for call in turn.calls] == ["a", "b"]
    await talk.give(b="2")
    await talk.give(a="1")
    assert (await talk.turn()).text == "1 2"
    assert await talk.end() is grpc.StatusCode.OK


async def test_the_whole_conversation_may_be_sent_at_once_and_half_closed(
    serve: Serve, service: FakeService
) -> None:
    _, channel = await serve()
    talk = await Talk(channel).open()
    await talk.say("one")
    await talk.call.done_writing()
    assert (await talk.turn()).text == "Hello"
    assert await talk.code() is grpc.StatusCode.OK


async def test_a_call_that_only_opens_ends_well(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    talk = await Talk(channel).open()
    assert await talk.end() is grpc.StatusCode.OK
    assert service.requests == []


async def test_half_closing_while_results_are_due_ends_the_call(
    serve: Serve, service: FakeService
) -> None:
    service.script = calling
    _, channel = await serve()
    talk = await Talk(channel).open(tools=[ADD])
    await talk.ask("Go.")
    await talk.give(a="1")
    assert await talk.end() is grpc.StatusCode.OK
    assert len(service.requests) == 1


async def test_the_conversation_so_far_may_be_given(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    before = [
        pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="one")]),
        pb.Message(role=pb.ROLE_ASSISTANT, parts=[pb.Part(text="two")]),
    ]
    talk = await Talk(channel).open(messages=before)
    await talk.ask("three")
    assert len(service.requests[0].messages) == 3


async def test_cancel_ends_the_turn_and_not_the_call(serve: Serve, service: FakeService) -> None:
    service.script = slow
    _, channel = await serve()
    talk = await Talk(channel).open()
    await talk.say("one")
    await talk.until("text_delta")
    await talk.cancel_turn()
    end = await talk.until("finished")
    assert end.event.finished.reason == pb.FINISH_REASON_CANCELLED
    assert not end.event.finished.HasField("usage")
    assert service.closed.is_set()
    assert (await talk.ask("two")).finish == "stop"
    assert [message.parts for message in service.requests[1].messages] == [
        (TextPart("one"),),
        (TextPart("Half an"),),
        (TextPart("two"),),
    ]


async def test_cancel_before_the_first_event(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_before_the_first_event
    _, channel = await serve()
    talk = await Talk(channel).open()
    await talk.say("one")
    await soon(service.entered.wait())
    await talk.cancel_turn()
    turn = await talk.turn()
    assert turn.events == ["started", "finished"]
    assert turn.request_id == service.requests[0].request_id
    assert turn.finish == "cancelled"


async def test_cancel_without_a_turn_has_no_effect(serve: Serve, service: FakeService) -> None:
    service.script = calling
    _, channel = await serve()
    talk = await Talk(channel).open(tools=[ADD])
    await talk.cancel_turn()
    await talk.ask("Go.")
    await talk.cancel_turn()
    await talk.give(a="1", b="2")
    assert (await talk.turn()).text == "1 2"


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (pb.ConverseRequest(), grpc.StatusCode.INVALID_ARGUMENT, "request"),
        (
            pb.ConverseRequest(open=pb.OpenConversation()),
            grpc.StatusCode.FAILED_PRECONDITION,
            "open",
        ),
    ],
    ids=["nothing", "open"],
)
async def test_a_message_that_begins_no_turn_is_rejected_and_changes_nothing(
    serve: Serve, request_: pb.ConverseRequest, code: grpc.StatusCode, field: str
) -> None:
    _, channel = await serve()
    talk = await Talk(channel).open()
    await talk.ask("one")
    await talk.call.write(request_)
    rejected = (await talk.until("message_rejected")).message_rejected
    assert rejected.code == code.value[0]
    info = error_details_pb2.ErrorInfo()
    assert rejected.details[0].Unpack(info)
    assert info.metadata["field"] == field
    assert (await talk.ask("two")).finish == "stop"
    assert await talk.end() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("request_", "failure"),
    [
        (
            pb.ConverseRequest(
                tool_results=pb.ToolResults(results=[pb.ToolResult(call_id="nobody")])
            ),
            ("INVALID_ARGUMENT", "INVALID_VALUE", "tool_results.results[0].call_id"),
        ),
        (
            pb.ConverseRequest(message=pb.UserMessage(parts=[pb.Part(text="Well?")])),
            ("FAILED_PRECONDITION", "TOOL_RESULTS_DUE", "message"),
        ),
        (
            pb.ConverseRequest(
                tool_results=pb.ToolResults(
                    results=[pb.ToolResult(call_id="b")],
                    overrides=pb.TurnOverrides(tool_choice=pb.ToolChoice(name="none")),
                )
            ),
            ("INVALID_ARGUMENT", "INVALID_VALUE", "tool_results.overrides.tool_choice.name"),
        ),
        (
            pb.ConverseRequest(
                tool_results=pb.ToolResults(
                    results=[pb.ToolResult(call_id="b")],
                    overrides=pb.TurnOverrides(
                        output_format=pb.OutputFormat(
                            kind=pb.OutputFormat.KIND_JSON_SCHEMA, schema_json="{"
                        )
                    ),
                )
            ),
            (
                "INVALID_ARGUMENT",
                "INVALID_VALUE",
                "tool_results.overrides.output_format.schema_json",
            ),
        ),
    ],
    ids=["unknown id", "out of order", "override", "malformed override"],
)
async def test_a_message_that_cannot_begin_a_turn_leaves_the_call_open(
    serve: Serve,
    service: FakeService,
    request_: pb.ConverseRequest,
    failure: tuple[str, str, str],
) -> None:
    service.script = calling
    _, channel = await serve()
    talk = await Talk(channel).open(tools=[ADD])
    await talk.ask("Go.")
    await talk.give(a="0")
    await talk.call.write(request_)
    failed = (await talk.outcome()).failure
    assert failed is not None
    assert (failed.status, failed.reason, failed.field) == failure
    # All results are due again, that of before as well.
    await talk.give(a="1", b="2")
    assert (await talk.turn()).text == "1 2"
    assert await talk.end() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    "request_",
    [
        pb.ConverseRequest(message=pb.UserMessage(parts=[pb.Part(text="two")])),
        pb.ConverseRequest(tool_results=pb.ToolResults()),
    ],
    ids=["message", "tool_results"],
)
async def test_a_message_within_a_turn_is_rejected_and_the_turn_goes_on(
    serve: Serve, service: FakeService, request_: pb.ConverseRequest
) -> None:
    gate = Gate()
    service.script = script_of(STARTED, gate, STOP)
    _, channel = await serve()
    talk = await Talk(channel).open()
    await talk.say("one")
    await talk.until("started")
    await talk.call.write(request_)
    rejected = (await talk.until("message_rejected")).message_rejected
    assert rejected.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.RequestInfo()
    assert rejected.details[0].Unpack(info)
    assert rejected.details[1].Unpack(request)
    assert (info.reason, info.metadata["field"]) == (
        "TURN_RUNNING",
        request_.WhichOneof("request"),
    )
    assert request.request_id == service.requests[0].request_id
    gate.opened.set()
    assert (await talk.until("finished")).event.finished.reason == pb.FINISH_REASON_STOP
    assert (await talk.ask("three")).finish == "stop"
    said = [part for message in service.requests[1].messages for part in message.parts]
    assert TextPart("two") not in said


async def test_the_first_message_must_open(serve: Serve) -> None:
    _, channel = await serve()
    talk = Talk(channel)
    await talk.say("one")
    assert (await ended(talk)).fields == ["open"]
    silent = Talk(channel)
    assert await silent.end() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"sampling": pb.Sampling(temperature=2)}, "open.completion.sampling.temperature"),
        ({"tools": [pb.Tool(name="a b")]}, "open.completion.tools[0].name"),
        (
            {"tools": [pb.Tool(name="a", parameters_json="[]")]},
            "open.completion.tools[0].parameters_json",
        ),
        ({"tool_choice": pb.ToolChoice(allowed=["x"])}, "open.completion.tool_choice.allowed[0]"),
        ({"tool_choice": pb.ToolChoice(name="x")}, "open.completion.tool_choice.name"),
        (
            {"output_format": pb.OutputFormat(schema_json="{")},
            "open.completion.output_format.schema_json",
        ),
        ({"max_output_tokens": 0}, "open.completion.max_output_tokens"),
        (
            {"messages": [pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="x")])]},
            "open.completion.messages[0]",
        ),
        ({"messages": [pb.Message(role=pb.ROLE_ASSISTANT)]}, "open.completion.messages[0]"),
    ],
)
async def test_wrong_settings_are_named(
    serve: Serve, settings: dict[str, object], field: str
) -> None:
    _, channel = await serve()
    talk = await Talk(channel).open(**settings)
    assert (await ended(talk)).fields == [field]


@pytest.mark.parametrize("after", [(), (STARTED, TextDelta("x"))], ids=["before", "mid-stream"])
async def test_a_turn_that_fails_leaves_the_call_open(
    serve: Serve, service: FakeService, after: tuple[Event, ...]
) -> None:
    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        if len(service.requests) != 2:
            yield STARTED
            yield TextDelta("Well.")
            yield STOP
            return
        for event in after:
            yield event
        raise errors.UnavailableError("Overloaded.", reason="OVERLOADED", retry_after=3)

    service.script = script
    _, channel = await serve()
    talk = await Talk(channel).open()
    await talk.ask("one")
    await talk.say("two")
    event = (await talk.until("turn_failed")).turn_failed
    status = status_pb2.Status.FromString(event.SerializeToString())
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    request = error_details_pb2.RequestInfo()
    assert (status.code, status.message) == (grpc.StatusCode.UNAVAILABLE.value[0], "Overloaded.")
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(request)
    assert status.details[2].Unpack(retry)
    assert (info.reason, retry.retry_delay.seconds) == ("OVERLOADED", 3)
    # The log knows the turn, not the call.
    assert request.request_id == service.requests[1].request_id
    again = await talk.ask("two again")
    assert (again.finish, again.request_id) == ("stop", service.requests[2].request_id)
    assert again.request_id != service.requests[1].request_id
    # Neither what failed nor the part of its answer is in the conversation.
    assert [message.parts for message in service.requests[2].messages] == [
        (TextPart("one"),),
        (TextPart("Well."),),
        (TextPart("two again"),),
    ]
    assert await talk.end() is grpc.StatusCode.OK


async def test_a_first_turn_that_cannot_begin_has_its_own_id(
    serve: Serve, service: FakeService
) -> None:
    _, channel = await serve()
    talk = await Talk(channel).open()
    await talk.send(message=pb.UserMessage())
    assert (await talk.outcome()).failure is not None
    turn = await talk.ask("one")
    assert ("x-request-id", turn.request_id) not in tuple(await talk.call.initial_metadata())


@pytest.mark.parametrize(
    "fault",
    [ValueError("secret"), asyncio.CancelledError("secret"), None],
    ids=["exception", "cancelled", "no end"],
)
async def test_a_fault_of_a_turn_is_opaque(
    serve: Serve,
    service: FakeService,
    fault: BaseException | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        yield STARTED
        if len(service.requests) > 1:
            yield STOP
        elif fault is not None:
            raise fault

    service.script = script
    _, channel = await serve()
    talk = await Talk(channel).open()
    await talk.say("one")
    failed = await talk.until("turn_failed")
    assert failed.turn_failed.code == grpc.StatusCode.INTERNAL.value[0]
    assert "secret" not in str(failed)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert (await talk.ask("two")).finish == "stop"


async def test_a_message_may_override_settings_for_its_turn(
    serve: Serve, service: FakeService
) -> None:
    service.script = calling
    _, channel = await serve()
    choice = pb.ToolChoice(mode=pb.ToolChoice.MODE_REQUIRED)
    talk = await Talk(channel).open(tools=[ADD], tool_choice=choice, effort=pb.EFFORT_LOW)
    await talk.ask("Go.")
    overrides = pb.TurnOverrides(
        tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_AUTO),
        max_output_tokens=7,
        output_format=pb.OutputFormat(kind=pb.OutputFormat.KIND_JSON_OBJECT),
        effort=pb.EFFORT_HIGH,
    )
    # The other results are still due: it waits for the turn.
    first = pb.ToolResults(results=[pb.ToolResult(call_id="a")], overrides=overrides)
    await talk.send(tool_results=first)
    content = [pb.Part(text="2")]
    rest = pb.ToolResults(results=[pb.ToolResult(call_id="b", content=content)])
    service.script = hello
    await talk.send(tool_results=rest)
    await talk.turn()
    await talk.ask("And now?")
    one, two, three = service.requests
    assert one == replace(three, messages=one.messages, request_id=one.request_id)
    assert one.tool_choice.mode is ToolMode.REQUIRED
    assert two.tool_choice.mode is ToolMode.AUTO
    assert (two.max_output_tokens, two.effort) == (7, Effort.HIGH)
    assert two.output_format.kind is OutputKind.JSON_OBJECT


async def test_bytes_that_are_no_message(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_after_the_first_event
    _, channel = await serve()
    method = "/bridge.v1.CompletionService/Converse"
    call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(method)()
    opened = pb.ConverseRequest(open=pb.OpenConversation())
    said = pb.ConverseRequest(message=pb.UserMessage(parts=[pb.Part(text="x")]))
    await call.write(opened.SerializeToString())
    await call.write(said.SerializeToString())
    await soon(call.read())
    await call.write(b"\xff\xff")
    assert await soon(call.code()) is grpc.StatusCode.INVALID_ARGUMENT
    assert (await details_of(call)).info.reason == "MALFORMED_MESSAGE"
    await service.until_closed()


async def test_a_conversation_has_a_size(serve: Serve) -> None:
    _, channel = await serve(max_message_bytes=10_000)
    talk = await Talk(channel).open()
    await talk.ask("x" * 6_000)
    await talk.say("x" * 6_000)
    failure = (await talk.outcome()).failure
    assert failure is not None
    assert failure.status == "RESOURCE_EXHAUSTED"
    assert (failure.reason, failure.field) == ("REQUEST_TOO_LARGE", "message")
    assert (await talk.ask("x" * 2_000)).finish == "stop"


async def test_a_caller_has_so_many_calls_open_and_no_more(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    occupancy = Occupancy()
    _, channel = await serve(max_conversations=2, occupancy=occupancy)
    talks = [await Talk(channel).open() for _ in range(2)]
    for talk in talks:
        await talk.ask("one")
    details = await ended(await Talk(channel).open())
    assert details.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details.info.reason == "TOO_MANY_CONVERSATIONS"
    assert details.retry is not None
    assert "all 2 Converse calls of a caller are in use" in caplog.text
    samples = [sample for family in occupancy.collect() for sample in family.samples]
    counted = {(s.name, s.labels["limit"]): s.value for s in samples if "limit" in s.labels}
    assert counted["bridge_limit_reached_total", "conversations"] == 1
    assert counted["bridge_limit_refusals_total", "conversations"] == 1
    assert await talks[0].end() is grpc.StatusCode.OK
    assert (await (await Talk(channel).open()).ask("one")).text == "Hello"


@pytest.mark.parametrize(
    "script",
    [for_ever_before_the_first_event, for_ever_after_the_first_event],
    ids=["before the first event", "after it"],
)
async def test_a_cut_call_closes_the_answer(
    serve: Serve, service: FakeService, script: object, caplog: pytest.LogCaptureFixture
) -> None:
    service.script = script  # type: ignore[assignment]
    server, channel = await serve()
    talk = await Talk(channel).open()
    await talk.say("one")
    await soon(service.entered.wait())
    talk.call.cancel()
    await service.until_closed()
    await soon(server.stop())
    assert caplog.records == []


async def test_a_call_cut_between_turns_ends_without_a_word(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server, channel = await serve()
    talk = await Talk(channel).open()
    await talk.ask("one")
    talk.call.cancel()
    await soon(server.stop())
    assert server.running == 0
    assert caplog.records == []


async def test_a_deadline_covers_all_turns(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_after_the_first_event
    _, channel = await serve()
    # On a busy machine it may be over before the turn has begun.
    for seconds in (0.5, 5, 50):
        talk = Talk(channel, timeout=seconds)
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await talk.open()
            await talk.say("one")
        assert await talk.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if service.requests:
            break
    await service.until_closed()


async def test_a_reader_that_stalls_is_given_up(serve: Serve, service: FakeService) -> None:
    async def flood(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        yield STARTED
        while True:
            yield TextDelta("x" * 100_000)

    service.script = flood
    _, channel = await serve(stall_seconds=0.2)
    talk = await Talk(channel).open()
    await talk.say("one")
    await service.until_closed()
    assert await talk.code() is grpc.StatusCode.CANCELLED


async def test_a_client_that_is_silent_between_turns_is_not_a_stall(serve: Serve) -> None:
    _, channel = await serve(stall_seconds=1)
    talk = await Talk(channel).open()
    await talk.ask("one")
    # That something does not happen can only be seen by waiting for it a while.
    await asyncio.sleep(1.5)
    assert (await talk.ask("two")).text == "Hello"


async def test_a_drain_ends_a_conversation_between_turns_at_once(serve: Serve) -> None:
    # It also ends at its next heartbeat.
    server, channel = await serve(heartbeat_seconds=3600)
    talk = await Talk(channel).open()
    await talk.ask("one")
    await soon(server.drain(600))
    details = await ended(talk)
    assert (details.code, details.info.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


async def test_a_drain_ends_a_conversation_between_turns_before_the_answers_that_run(
    serve: Serve, service: FakeService
) -> None:
    server, channel = await serve(heartbeat_seconds=3600)
    idle = await Talk(channel).open()
    await idle.ask("one")
    gate = Gate()
    service.script = script_of(STARTED, gate, STOP)
    running = await Talk(channel).open()
    await running.say("one")
    await soon(gate.reached.wait())
    draining = asyncio.create_task(server.drain(600))
    assert (await ended(idle)).info.reason == "DRAINING"
    assert not draining.done()
    gate.opened.set()
    assert (await running.turn()).finish == "stop"
    assert (await ended(running)).info.reason == "DRAINING"
    await soon(draining)


async def test_a_drain_lets_the_turn_end_and_then_the_call(
    serve: Serve, service: FakeService
) -> None:
    more = asyncio.Event()

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        yield Started("m")
        await more.wait()
        yield STOP

    service.script = script
    server, channel = await serve()
    talk = await Talk(channel).open()
    await talk.say("one")
    await talk.until("started")
    draining = asyncio.create_task(server.drain(600))
    done, _ = await asyncio.wait({draining}, timeout=0.1)
    assert not done
    more.set()
    assert (await talk.until("finished")).event.finished.reason == pb.FINISH_REASON_STOP
    assert (await ended(talk)).info.reason == "DRAINING"
    await soon(draining)


async def test_heartbeats_are_sent_within_turns_and_between_them(
    serve: Serve, service: FakeService
) -> None:
    gate = Gate()
    service.script = script_of(STARTED, gate, STOP)
    _, channel = await serve(heartbeat_seconds=0.02)
    talk = await Talk(channel).open()
    await talk.until("heartbeat")
    await talk.say("one")
    await talk.until("started")
    await talk.until("heartbeat")
    gate.opened.set()
    await talk.until("finished")
    await talk.until("heartbeat")
    assert await talk.end() is grpc.StatusCode.OK


async def test_a_ping_is_answered_and_has_no_other_effect(
    serve: Serve, service: FakeService
) -> None:
    gate = Gate()
    service.script = script_of(STARTED, gate, STOP)
    _, channel = await serve(heartbeat_seconds=3600)
    talk = await Talk(channel).open()
    await talk.ping()
    assert (await talk.read()).event.WhichOneof("event") == "heartbeat"
    await talk.say("one")
    await talk.until("started")
    await talk.ping()
    assert (await talk.read()).event.WhichOneof("event") == "heartbeat"
    gate.opened.set()
    assert (await talk.turn()).finish == "stop"
    assert len(service.requests) == 1
