"""CompletionService."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from bridge.core.contract import CompletionRequest, InvalidRequestError, Service
from bridge.core.system import LARGE_BYTES, off_loop
from bridge.grpc_server.call_context import (
    Calls,
    current_caller,
    current_request_id,
    new_request_id,
    recording_refusals,
    with_call_context,
)
from bridge.grpc_server.conversation import Conversation
from bridge.grpc_server.converse import ConverseCall, OpenConversations
from bridge.grpc_server.mailbox import Heartbeat, sendable_events
from bridge.grpc_server.wire.collect import AnswerCollector
from bridge.grpc_server.wire.decode import SingleRequest, decode_conversation, decode_request
from bridge.grpc_server.wire.encode import HEARTBEAT, ResponseEncoder
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
    ) -> None:
        """See `Mailbox` for `heartbeat_seconds`."""
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
        answer = sendable_events(self._service.complete(completion), self._heartbeat_seconds)
        encoder = ResponseEncoder(pb.CompleteResponse)
        async with aclosing(answer) as events:
            async for event in events:
                if isinstance(event, Heartbeat):
                    yield pb.CompleteResponse(event=HEARTBEAT)
                    continue
                for response in encoder.encode(*event, completion.request_id):
                    yield response

    async def CreateCompletion(
        self,
        request: pb.CreateCompletionRequest,
        context: grpc.aio.ServicerContext[pb.CreateCompletionRequest, pb.CreateCompletionResponse],
    ) -> pb.CreateCompletionResponse:
        """Answer one conversation with one message."""
        completion = await self._decoded(request, context)
        collector = AnswerCollector(completion.request_id)
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
                raise InvalidRequestError("The first message must be open.", field="open")
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
            )
            async with aclosing(call.responses(requests)) as responses:
                async for response in responses:
                    yield response
