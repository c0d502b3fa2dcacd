"""The gRPC API's driver: Complete, and Converse."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

import grpc
from google.protobuf.json_format import MessageToDict

from bridge.core.contract.usage import Usage
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.support.grpc.details import Details, details_in
from tests.support.harness import PATIENCE
from tests.support.replies import LOST, Failure, Reading, Reply
from tests.support.waiting import soon

FINISHES: Final[Mapping[int, str]] = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
    pb.FINISH_REASON_REFUSAL: "content_filter",
    pb.FINISH_REASON_CANCELLED: "cancelled",
}


class GrpcCall(Reading):
    """One call of Complete, or what comes next on one of Converse."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.reply = Reply()

    async def read(self) -> bool:
        """Take the next event of the answer; False at its end."""
        try:
            response = await soon(self.call.read())
        except grpc.aio.AioRpcError as error:
            self.reply.failure = failure_of(error)
            return False
        if response is grpc.aio.EOF:
            if not self.reply.finish:
                self.reply.failure = Failure(LOST)
            return False
        assert not self.reply.finish, "more after the end"
        _take(self.reply, response)
        return True

    async def turn(self) -> Reply:
        """Wait for the end of the turn, on a call that continues after it."""
        while not (self.reply.finish or self.reply.failure) and await self.read():
            pass
        return self.reply

    async def leave(self) -> None:
        self.call.cancel()


def complete(
    channel: grpc.aio.Channel,
    request: pb.CompleteRequest,
    *,
    timeout: float = PATIENCE,
    metadata: tuple[tuple[str, str], ...] = (),
) -> GrpcCall:
    """Send a request to Complete."""
    stub = pb_grpc.CompletionServiceStub(channel)
    return GrpcCall(stub.Complete(request, timeout=timeout, metadata=metadata))


class Talk:
    """One call of Converse."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        timeout: float | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.call: grpc.aio.StreamStreamCall[Any, Any] = pb_grpc.CompletionServiceStub(
            channel
        ).Converse(timeout=timeout, metadata=metadata)

    async def open(self, **settings: Any) -> Self:
        # A call that is refused may end before this is written: reading it says why.
        with suppress(grpc.aio.AioRpcError):
            await self.send(open=pb.OpenConversation(completion=pb.CompletionSpec(**settings)))
        return self

    async def send(self, **kind: Any) -> None:
        await soon(self.call.write(pb.ConverseRequest(**kind)))

    async def say(self, *texts: str) -> None:
        parts = [pb.Part(text=text) for text in texts]
        await self.send(message=pb.UserMessage(parts=parts))

    async def give(self, **results: str) -> None:
        """Give results, by the ids of their calls."""
        given = [
            pb.ToolResult(call_id=call_id, content=[pb.Part(text=text)])
            for call_id, text in results.items()
        ]
        await self.send(tool_results=pb.ToolResults(results=given))

    async def cancel_turn(self) -> None:
        await self.send(cancel=pb.CancelTurn())

    async def ping(self) -> None:
        await self.send(ping=pb.Ping())

    async def read(self) -> pb.ConverseResponse:
        """Take the next event, which must not be the end of the call."""
        response = await soon(self.call.read())
        assert isinstance(response, pb.ConverseResponse)
        return response

    async def turn(self) -> Reply:
        """Take the events up to the end of the turn, which must not be an error."""
        reply = await self.outcome()
        assert reply.failure is None, reply.failure
        return reply

    async def outcome(self) -> Reply:
        """Take the events up to the end of the turn, or of the call."""
        return await GrpcCall(self.call).turn()

    async def ask(self, *texts: str) -> Reply:
        await self.say(*texts)
        return await self.turn()

    async def until(self, kind: str) -> pb.ConverseResponse:
        """Take events up to the first of a kind."""
        while kind_of(response := await self.read()) != kind:
            pass
        return response

    async def end(self) -> grpc.StatusCode:
        """Half-close; return the status of the call."""
        await soon(self.call.done_writing())
        return await self.code()

    async def code(self) -> grpc.StatusCode:
        """The status of the call, once what is left of it is read."""
        try:
            # Not for each message: heartbeats come for as long as the call is open.
            async with asyncio.timeout(PATIENCE):
                while isinstance(await self.call.read(), pb.ConverseResponse):
                    pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        return await soon(self.call.code())


def kind_of(response: pb.ConverseResponse) -> str | None:
    """The kind of its event, or what it is instead of one."""
    kind = response.WhichOneof("response")
    return response.event.WhichOneof("event") if kind == "event" else kind


def _take(reply: Reply, response: pb.CompleteResponse | pb.ConverseResponse) -> None:
    if isinstance(response, pb.ConverseResponse) and response.HasField("turn_failed"):
        reply.events.append("turn_failed")
        reply.failure = _failure_of_turn(response.turn_failed)
        return
    event = response.event
    kind = event.WhichOneof("event")
    assert kind is not None
    counted = kind not in ("heartbeat", "usage")
    assert (response.sequence_number > reply.sequence_number) == counted
    assert counted or not response.sequence_number
    reply.sequence_number = response.sequence_number or reply.sequence_number
    if kind == "heartbeat":
        reply.comments += 1
        return
    if not (kind.endswith("delta") and reply.events[-1:] == [kind]):
        reply.events.append(kind)
    match kind:
        case "started":
            started = event.started
            reply.model, reply.request_id = started.model, started.request_id
            reply.ignored = tuple(started.ignored_params)
        case "text_delta":
            reply.add_text(event.text_delta.text)
        case "thinking_delta":
            reply.thinking += event.thinking_delta.text
        case "tool_call_start":
            start = event.tool_call_start
            reply.begin_call(start.index, start.id, start.name)
        case "tool_call_delta":
            delta = event.tool_call_delta
            reply.add_arguments(delta.index, delta.arguments_json)
        case "finished":
            reply.finish = FINISHES[event.finished.reason]
            reply.usage = _usage(event.finished.usage)


def _usage(wire: pb.Usage) -> Usage:
    usage = MessageToDict(
        wire, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return Usage(**{name: int(count) for name, count in usage.items()})


def user(text: str = "Hello?") -> pb.Message:
    return pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=text)])


def question(**fields: object) -> pb.CompleteRequest:
    """Build a request that is good unless `fields` make it bad."""
    request = pb.CompleteRequest(completion=pb.CompletionSpec(**fields))  # type: ignore[arg-type]
    if not request.completion.messages:
        request.completion.messages.append(user())
    return request


def whole(request: pb.CompleteRequest | None = None) -> pb.CreateCompletionRequest:
    """The same request, for an answer in one message."""
    sent = question() if request is None else request
    return pb.CreateCompletionRequest.FromString(sent.SerializeToString())


async def create(
    channel: grpc.aio.Channel, request: pb.CompleteRequest, *, timeout: float = PATIENCE
) -> Reply:
    """Send a request to CreateCompletion."""
    reply = Reply()
    stub = pb_grpc.CompletionServiceStub(channel)
    try:
        response = await soon(stub.CreateCompletion(whole(request), timeout=timeout))
    except grpc.aio.AioRpcError as error:
        reply.failure = failure_of(error)
        return reply
    reply.model, reply.request_id = response.model, response.request_id
    reply.ignored = tuple(response.ignored_params)
    reply.text, reply.thinking = response.text, response.thinking
    for index, call in enumerate(response.tool_calls):
        reply.begin_call(index, call.id, call.name)
        reply.add_arguments(index, call.arguments_json)
    reply.finish = FINISHES[response.finish_reason]
    reply.usage = _usage(response.usage)
    return reply


async def read(call: grpc.aio.UnaryStreamCall[Any, pb.CompleteResponse]) -> pb.CompleteResponse:
    """Take the next event of an answer, which must not be its end."""
    response = await soon(call.read())
    assert isinstance(response, pb.CompleteResponse)
    return response


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """The content of an error, with its details if it has any."""
    trailing = error.trailing_metadata()
    details = details_in(error.code(), error.details(), trailing)
    status, message = error.code().name, error.details() or ""
    if details is None:
        return Failure(status, message=message)
    failure = _detailed(details, status, message)
    if failure.retry_after is not None:
        # The same for clients that know only gRPC's own way.
        pushback = dict(trailing or ())["grpc-retry-pushback-ms"]
        milliseconds = str(round(failure.retry_after * 1000))
        assert pushback == (milliseconds if failure.retryable else "-1")
    return failure


def _failure_of_turn(failed: pb.ErrorStatus) -> Failure:
    """The same of a turn that failed on a call that did not."""
    code = next(code for code in grpc.StatusCode if code.value[0] == failed.code)
    # As google.rpc.Status, by which details are read.
    trailing = (("grpc-status-details-bin", failed.SerializeToString()),)
    details = details_in(code, failed.message, trailing)
    assert details is not None
    return _detailed(details, code.name, failed.message)


def _detailed(details: Details, status: str, message: str) -> Failure:
    info = details.info
    field = info.metadata.get("field", "")
    if details.bad_request is not None:
        assert details.fields == [field]
    retryable = info.metadata["retryable"] == "true"
    after = None
    if details.retry is not None:
        after = details.retry.retry_delay.ToMilliseconds() / 1000
    return Failure(status, info.reason, after, message, field, retryable)
