"""CompletionService."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc

from bridge.core.contract import CompletionRequest, Event, InvalidRequestError, Service
from bridge.core.system import LARGE_BYTES, off_loop
from bridge.core.validation import missing
from bridge.grpc_server.call_context import (
    Calls,
    current_caller,
    current_grant,
    current_request_id,
    new_request_id,
    recording_refusals,
    with_call_context,
)
from bridge.grpc_server.conversation import Conversation
from bridge.grpc_server.converse import ConverseCall, OpenConversations
from bridge.grpc_server.mailbox import Heartbeat, numbered, sendable_events
from bridge.grpc_server.wire.collect import AnswerCollector
from bridge.grpc_server.wire.decode import SingleRequest, decode_conversation, decode_request
from bridge.grpc_server.wire.encode import Response, ResponseEncoder
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc


class CompletionServicer(pb_grpc.CompletionServiceServicer):
    """Answers with the core's events, one response per event, or with all of them in one."""

    def __init__(
        self,
        service: Service,
        calls: Calls,
        conversations: OpenConversations,
        *,
        max_conversation_bytes: int,
        heartbeat_seconds: float,
        replica: str = "",
    ) -> None:
        """See `Mailbox` for `heartbeat_seconds`. `replica` is the name of this server."""
        self._replica = replica
        self._heartbeat_seconds = heartbeat_seconds
        self._service = service
        self._calls = calls
        self._open = conversations
        self._max_conversation_bytes = max_conversation_bytes

    async def Complete(
        self,
        request: pb.CompleteRequest,
        context: grpc.aio.ServicerContext[pb.CompleteRequest, pb.CompleteResponse],
    ) -> AsyncGenerator[pb.CompleteResponse, None]:
        """Stream the answer to one conversation."""
        completion = await self._decoded(request, context)
        encoder = ResponseEncoder(pb.CompleteResponse, self._replica)
        if request.detached:
            # The deadline is that of the call.
            answer = await self._service.detach(replace(completion, timeout=None))
            current_request_id.set(answer.request_id)
            # With it, the client gets the answer's id, and can attach to it from now on.
            yield encoder.heartbeat
            events = answer.events()
        else:
            events = numbered(self._service.complete(completion))
        async with aclosing(self._responses(events, encoder)) as responses:
            async for response in responses:
                yield response

    async def AttachCompletion(
        self,
        request: pb.AttachCompletionRequest,
        context: grpc.aio.ServicerContext[pb.AttachCompletionRequest, pb.AttachCompletionResponse],
    ) -> AsyncGenerator[pb.AttachCompletionResponse, None]:
        """Stream a detached answer, from any event on."""
        answer = await self._service.attach(current_grant.get().owner, _id_in(request))
        current_request_id.set(answer.request_id)
        events = answer.events(request.after_sequence_number)
        encoder = ResponseEncoder(pb.AttachCompletionResponse, self._replica)
        async with aclosing(self._responses(events, encoder)) as responses:
            async for response in responses:
                yield response

    async def CancelCompletion(
        self,
        request: pb.CancelCompletionRequest,
        context: grpc.aio.ServicerContext[pb.CancelCompletionRequest, pb.CancelCompletionResponse],
    ) -> pb.CancelCompletionResponse:
        """Cancel a request by its id."""
        await self._service.cancel(current_grant.get().owner, _id_in(request))
        return pb.CancelCompletionResponse()

    async def _responses(
        self, events: AsyncGenerator[tuple[int, Event], None], encoder: ResponseEncoder[Response]
    ) -> AsyncGenerator[Response, None]:
        """Yield what to send of an answer, with heartbeats; close it to close `events`."""
        request_id = current_request_id.get()
        async with aclosing(sendable_events(events, self._heartbeat_seconds)) as sendable:
            async for event in sendable:
                if isinstance(event, Heartbeat):
                    yield encoder.heartbeat
                    continue
                for response in encoder.encode(*event, request_id):
                    yield response

    async def CreateCompletion(
        self,
        request: pb.CreateCompletionRequest,
        context: grpc.aio.ServicerContext[pb.CreateCompletionRequest, pb.CreateCompletionResponse],
    ) -> pb.CreateCompletionResponse:
        """Answer one conversation with one message."""
        completion = await self._decoded(request, context)
        collector = AnswerCollector(completion.request_id, self._replica)
        async with aclosing(self._service.complete(completion)) as events:
            async for event in events:
                collector.see(event)
        return collector.response()

    async def CountTokens(
        self,
        request: pb.CountTokensRequest,
        context: grpc.aio.ServicerContext[pb.CountTokensRequest, pb.CountTokensResponse],
    ) -> pb.CountTokensResponse:
        """Estimate the input tokens of a request."""
        completion = await self._decoded(request, context)
        tokens = await self._service.count_tokens(completion)
        return pb.CountTokensResponse(input_tokens=tokens, ignored_params=completion.ignored)

    async def _decoded(
        self, request: SingleRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> CompletionRequest:
        with recording_refusals(self._service, request.completion.model):
            completion = await off_loop(
                request.ByteSize() > LARGE_BYTES,
                decode_request,
                request,
                request_id=current_request_id.get(),
                caller=current_caller(),
                timeout=context.time_remaining(),
            )
            return with_call_context(completion, context)

    async def Converse(
        self,
        requests: AsyncIterator[pb.ConverseRequest],
        context: grpc.aio.ServicerContext[pb.ConverseRequest, pb.ConverseResponse],
    ) -> AsyncGenerator[pb.ConverseResponse, None]:
        """Hold a conversation, turn by turn."""
        caller = current_caller()
        with self._open.one_more(caller):
            with self._calls.idle():
                first = await anext(requests, None)
            if first is None or first.WhichOneof("request") != "open":
                raise InvalidRequestError(
                    "The first message of the call must be 'open'.", field="open"
                )
            with recording_refusals(self._service, first.open.completion.model):
                large = first.ByteSize() > LARGE_BYTES
                opened = await off_loop(large, decode_conversation, first, caller=caller)
                opened = with_call_context(opened, context)
            conversation = Conversation(opened, self._max_conversation_bytes)
            call = ConverseCall(
                self._service,
                self._calls,
                conversation,
                new_id=new_request_id,
                time_remaining=context.time_remaining,
                heartbeat_seconds=self._heartbeat_seconds,
                replica=self._replica,
            )
            async with aclosing(call.responses(requests)) as responses:
                async for response in responses:
                    yield response


def _id_in(request: pb.AttachCompletionRequest | pb.CancelCompletionRequest) -> str:
    """Return the id of the answer that a request is about."""
    if not request.request_id:
        raise missing("request_id")
    return request.request_id
