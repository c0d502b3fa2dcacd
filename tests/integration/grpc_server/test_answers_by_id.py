"""Request ids, labels and detached answers over a real connection, on a scripted core."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from bridge.core.access.authentication import Access
from bridge.core.access.keys import parse_given
from bridge.core.contract.errors import UnavailableError
from bridge.core.contract.events import (
    Citation,
    Event,
    Finished,
    FinishReason,
    TextDelta,
    TextStart,
    ThinkingSignature,
)
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.integration.grpc_server.conftest import Serve
from tests.support.fakes import (
    HELLO,
    STARTED,
    STOP,
    USAGE,
    FakeService,
    Gate,
    for_ever_after_the_first_event,
    for_ever_before_the_first_event,
    script_of,
)
from tests.support.grpc.client import GrpcCall, Talk, create, question, whole
from tests.support.grpc.details import Details, details_of
from tests.support.replies import Reply
from tests.support.waiting import soon

NOT_FOUND = grpc.StatusCode.NOT_FOUND
CANCELLED = grpc.StatusCode.CANCELLED


def asked(**fields: Any) -> pb.CompleteRequest:
    request = question()
    request.MergeFrom(pb.CompleteRequest(**fields))
    return request


def complete(channel: grpc.aio.Channel, *, timeout: float | None = None, **fields: Any) -> GrpcCall:
    stub = pb_grpc.CompletionServiceStub(channel)
    return GrpcCall(stub.Complete(asked(**fields), timeout=timeout))


def attach(channel: grpc.aio.Channel, id: str, after: int = 0, **options: Any) -> GrpcCall:
    request = pb.AttachCompletionRequest(request_id=id, after_sequence_number=after)
    return GrpcCall(pb_grpc.CompletionServiceStub(channel).AttachCompletion(request, **options))


async def cancel(channel: grpc.aio.Channel, id: str, **options: Any) -> None:
    request = pb.CancelCompletionRequest(request_id=id)
    await soon(pb_grpc.CompletionServiceStub(channel).CancelCompletion(request, **options))


async def started(call: GrpcCall) -> str:
    """Read up to `started`; return the id of the request."""
    while not call.reply.request_id:
        assert await call.read(), call.reply.failure
    return call.reply.request_id


async def refusal(call: Any) -> Details:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await soon(call.read() if hasattr(call, "read") else call)
    return await details_of(refused.value)


def failure_in(reply: Reply) -> tuple[str, str, str]:
    assert reply.failure is not None
    return str(reply.failure.status), reply.failure.reason, reply.failure.field


# Ids and labels


async def test_an_id_and_labels_reach_the_core(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    labels = {"team": "search"}

    await complete(channel, request_id="order-1", labels=labels).turn()
    await create(channel, asked(request_id="order-2", labels=labels))

    said = [(request.client_request_id, request.labels) for request in service.requests]
    assert said == [("order-1", labels), ("order-2", labels)]


async def test_an_id_that_was_answered_is_refused(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    assert (await complete(channel, request_id="order-1").turn()).text == "Hello"

    again = await complete(channel, request_id="order-1").turn()
    whole_again = await create(channel, asked(request_id="order-1"))
    other = await complete(channel, request_id="order-1", labels={"a": "b"}).turn()

    in_use = ("ALREADY_EXISTS", "REQUEST_ID_IN_USE", "request_id")
    assert failure_in(again) == failure_in(whole_again) == in_use
    assert failure_in(other) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED", "request_id")
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": "not an id"}, "request_id"),
        ({"request_id": "a" * 65}, "request_id"),
        ({"labels": {f"n{number}": "" for number in range(17)}}, "labels"),
        ({"labels": {"n" * 65: ""}}, "labels"),
        ({"labels": {"n": "v" * 513}}, "labels.n"),
    ],
)
@pytest.mark.parametrize("detached", [False, True])
async def test_a_bad_id_or_label_is_named(
    serve: Serve, service: FakeService, fields: dict[str, Any], field: str, detached: bool
) -> None:
    _, channel = await serve()
    reply = await complete(channel, detached=detached, **fields).turn()
    status, _, named = failure_in(reply)
    assert (status, named) == ("INVALID_ARGUMENT", field)
    assert service.requests == []


async def test_each_turn_of_a_conversation_has_an_id(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    talk = Talk(channel)
    await talk.send(open=pb.OpenConversation(labels={"team": "search"}))
    parts = [pb.Part(text="Hello?")]
    for id in ("turn-1", "", "turn-2"):
        await talk.send(message=pb.UserMessage(parts=parts, request_id=id))
        await talk.turn()

    said = [(request.client_request_id, request.labels) for request in service.requests]
    assert said == [(id, {"team": "search"}) for id in ("turn-1", "", "turn-2")]
    for id, reason in (("turn-1", "REQUEST_ID_REUSED"), ("a b", "INVALID_VALUE")):
        await talk.send(message=pb.UserMessage(parts=parts, request_id=id))
        _, failed, field = failure_in(await talk.outcome())
        assert (failed, field) == (reason, "message.request_id")
    assert await talk.end() is grpc.StatusCode.OK


async def test_bad_labels_of_a_conversation_are_named(serve: Serve) -> None:
    _, channel = await serve()
    talk = Talk(channel)
    await talk.send(open=pb.OpenConversation(labels={"n": "v" * 513}))
    assert failure_in(await talk.outcome())[2] == "open.labels.n"


# Cancelled by id


@pytest.mark.parametrize("before", [True, False], ids=["before the first event", "after it"])
async def test_a_request_is_cancelled_by_its_id(
    serve: Serve, service: FakeService, before: bool
) -> None:
    service.script = for_ever_before_the_first_event if before else for_ever_after_the_first_event
    _, channel = await serve()
    call = complete(channel, request_id="order-1")
    await soon(service.entered.wait())
    ids = ["order-1"] if before else [await started(call)]

    for id in ids:
        await cancel(channel, id)

    assert failure_in(await call.turn())[:2] == ("CANCELLED", "REQUEST_CANCELLED")
    await service.until_closed()


async def test_an_answer_in_one_message_is_cancelled(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_after_the_first_event
    _, channel = await serve()
    waiting = asyncio.create_task(create(channel, asked(request_id="order-1")))
    await soon(service.entered.wait())

    await cancel(channel, "order-1")

    assert failure_in(await soon(waiting))[:2] == ("CANCELLED", "REQUEST_CANCELLED")


async def test_a_turn_is_cancelled_and_the_conversation_goes_on(
    serve: Serve, service: FakeService
) -> None:
    service.script = for_ever_after_the_first_event
    _, channel = await serve()
    talk = Talk(channel)
    await talk.open()
    parts = [pb.Part(text="Hello?")]
    await talk.send(message=pb.UserMessage(parts=parts, request_id="turn-1"))
    await talk.until("started")

    await cancel(channel, "turn-1")

    assert failure_in(await talk.outcome())[:2] == ("CANCELLED", "REQUEST_CANCELLED")
    service.script = script_of(*HELLO)
    assert (await talk.ask("And now?")).text == "Hello"


# Detached


async def test_a_detached_answer_goes_on_without_its_client(
    serve: Serve, service: FakeService
) -> None:
    gate = Gate()
    service.script = script_of(STARTED, TextDelta("Hel"), gate, TextDelta("lo"), STOP)
    _, channel = await serve()
    call = complete(channel, detached=True)
    id = await started(call)
    await soon(gate.reached.wait())
    await call.leave()
    one, two = attach(channel, id), attach(channel, id, 2)
    assert await started(one) == id
    gate.opened.set()

    first, second = await one.turn(), await two.turn()

    assert first.text == "Hello"
    assert (second.text, second.events) == ("lo", ["text_delta", "usage", "finished"])
    assert first.sequence_number == second.sequence_number == 4
    assert ("x-request-id", id) in tuple(await one.call.initial_metadata())
    assert (await attach(channel, id, 4).turn()).events == []


async def test_the_id_of_a_detached_answer_comes_before_its_first_event(
    serve: Serve, service: FakeService
) -> None:
    service.script = for_ever_before_the_first_event
    _, channel = await serve(heartbeat_seconds=3600)
    call = complete(channel, detached=True)
    assert await call.read()
    assert call.reply.comments == 1
    id = dict(await soon(call.call.initial_metadata()))["x-request-id"]
    await call.leave()

    await cancel(channel, id)

    assert failure_in(await attach(channel, id).turn())[:2] == ("CANCELLED", "REQUEST_CANCELLED")
    await service.until_closed()


async def test_an_equal_detached_request_is_attached_to_the_first(
    serve: Serve, service: FakeService
) -> None:
    service.script = script_of(STARTED, TextDelta("Hel"), gate := Gate(), TextDelta("lo"), STOP)
    _, channel = await serve()
    first = complete(channel, request_id="order-1", detached=True)
    id = await started(first)
    second = complete(channel, request_id="order-1", detached=True, timeout=600)
    assert await started(second) == id
    gate.opened.set()

    assert (await first.turn()).text == (await second.turn()).text == "Hello"
    assert (await attach(channel, "order-1").turn()).text == "Hello"
    assert ("x-request-id", id) in tuple(await second.call.initial_metadata())
    undetached = await complete(channel, request_id="order-1").turn()
    assert failure_in(undetached) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED", "request_id")
    assert len(service.requests) == 1


async def test_a_deadline_ends_the_call_and_not_the_answer(
    serve: Serve, service: FakeService
) -> None:
    gate = Gate()
    service.script = script_of(STARTED, gate, *HELLO[1:])
    _, channel = await serve()
    id = ""
    # On a busy machine it may be over before the answer has begun.
    for seconds in (0.5, 5, 30):
        call = complete(channel, detached=True, timeout=seconds)
        assert failure_in(await call.turn())[0] == "DEADLINE_EXCEEDED"
        if id := call.reply.request_id:
            break
    assert id
    assert service.requests[-1].timeout is None
    attached = attach(channel, id, timeout=0.2)
    assert failure_in(await attached.turn())[0] == "DEADLINE_EXCEEDED"
    gate.opened.set()
    assert (await attach(channel, id).turn()).text == "Hello"


async def test_the_error_of_an_answer_ends_every_call(serve: Serve, service: FakeService) -> None:
    service.script = script_of(STARTED, TextDelta("Hel"), UnavailableError("No."))
    _, channel = await serve()
    call = complete(channel, detached=True)
    id = await started(call)

    for reply in (await call.turn(), await attach(channel, id).turn()):
        assert reply.text == "Hel"
        assert failure_in(reply)[:2] == ("UNAVAILABLE", "UPSTREAM_ERROR")
    stub = pb_grpc.CompletionServiceStub(channel)
    request = pb.AttachCompletionRequest(request_id=id, after_sequence_number=2)
    details = await refusal(stub.AttachCompletion(request))
    assert details.request_id == id


async def test_heartbeats_are_sent_to_an_attached_call(serve: Serve, service: FakeService) -> None:
    service.script = for_ever_after_the_first_event
    _, channel = await serve(heartbeat_seconds=0.05)
    id = await started(complete(channel, detached=True))
    call = attach(channel, id)
    while call.reply.comments < 2:
        assert await call.read()
    assert call.reply.events == ["started"]


async def test_what_only_http_can_ask_for_is_left_out(serve: Serve, service: FakeService) -> None:
    events: tuple[Event, ...] = (
        STARTED,
        ThinkingSignature("sig"),
        TextStart(cited=True),
        TextDelta("Hi"),
        Citation({"type": "page"}),
        Finished(FinishReason.STOP, USAGE),
    )
    service.script = script_of(*events)
    _, channel = await serve()
    id = await started(complete(channel, detached=True))
    reply = await attach(channel, id).turn()
    assert reply.events == ["started", "text_delta", "usage", "finished"]
    assert (reply.text, reply.sequence_number) == ("Hi", 6)


async def test_what_is_not_there_is_named(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    stub = pb_grpc.CompletionServiceStub(channel)
    missing: tuple[tuple[Any, str], ...] = (
        (stub.AttachCompletion(pb.AttachCompletionRequest(request_id="x")), "ANSWER_NOT_FOUND"),
        (stub.CancelCompletion(pb.CancelCompletionRequest(request_id="x")), "REQUEST_NOT_FOUND"),
    )
    for call, reason in missing:
        details = await refusal(call)
        assert (details.code, details.info.reason) == (NOT_FOUND, reason)
        assert details.info.metadata["field"] == "request_id"
        assert details.resource is not None
        assert details.resource.resource_type == "bridge.v1.Completion"
        assert details.resource.resource_name == "x"
    unnamed: tuple[Any, ...] = (
        stub.AttachCompletion(pb.AttachCompletionRequest()),
        stub.CancelCompletion(pb.CancelCompletionRequest()),
    )
    for call in unnamed:
        details = await refusal(call)
        assert details.info.reason == "MISSING_REQUIRED_PARAMETER"
        assert details.fields == ["request_id"]
    answered = complete(channel, detached=True)
    id = await started(answered)
    await answered.turn()
    for after in (-1, 5):
        details = await refusal(attach(channel, id, after).call)
        assert details.fields == ["after_sequence_number"]


async def test_an_answer_belongs_to_its_key(serve: Serve, service: FakeService) -> None:
    secrets = ("alice-secret-long-enough", "bob-secret-long-enough")
    keys = parse_given(f"alice={secrets[0]},bob={secrets[1]}")
    service.script = for_ever_after_the_first_event
    _, channel = await serve(access=Access(keys))
    alice, bob = ((("authorization", f"Bearer {secret}"),) for secret in secrets)
    stub = pb_grpc.CompletionServiceStub(channel)
    call = GrpcCall(stub.Complete(asked(request_id="order-1", detached=True), metadata=alice))
    await started(call)

    for id in ("order-1", call.reply.request_id):
        reply = await attach(channel, id, metadata=bob).turn()
        assert failure_in(reply)[1] == "ANSWER_NOT_FOUND"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await cancel(channel, id, metadata=bob)
        assert refused.value.code() is NOT_FOUND

    assert await started(attach(channel, "order-1", metadata=alice)) == call.reply.request_id
    await cancel(channel, "order-1", metadata=alice)
    assert failure_in(await call.turn())[1] == "REQUEST_CANCELLED"


async def test_a_drain_ends_the_calls_and_leaves_the_answer(
    serve: Serve, service: FakeService
) -> None:
    gate = Gate()
    service.script = script_of(STARTED, gate, *HELLO[1:])
    server, channel = await serve()
    call = complete(channel, detached=True)
    id = await started(call)
    other = attach(channel, id)
    await started(other)

    await soon(server.drain(0.1))

    for each in (call, other):
        assert failure_in(await each.turn())[:2] == ("UNAVAILABLE", "DRAINING")
    assert server.running == 0
    gate.opened.set()
    await soon(service.answers.finished())
    assert (await service.answers.attach("", id)).recorded[-1] == STOP


async def test_a_drain_waits_for_an_attached_call(serve: Serve, service: FakeService) -> None:
    gate = Gate()
    service.script = script_of(STARTED, gate, *HELLO[1:])
    server, channel = await serve()
    call = complete(channel, detached=True)
    other = attach(channel, await started(call))
    await started(other)
    draining = asyncio.create_task(server.drain(60))
    gate.opened.set()
    assert (await call.turn()).text == (await other.turn()).text == "Hello"
    await soon(draining)


async def test_an_answer_in_one_message_cannot_be_detached(
    serve: Serve, service: FakeService
) -> None:
    _, channel = await serve()
    stub = pb_grpc.CompletionServiceStub(channel)
    await soon(stub.CreateCompletion(whole(asked(detached=True))))
    # It is a field that the request does not have.
    assert service.requests[0].ignored == ("4",)
