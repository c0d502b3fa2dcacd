"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import CompletionRequest
from bridge.http_server.anthropic.messages.decode import decode_message_request
from bridge.http_server.anthropic.messages.reply import MessageCollector
from bridge.http_server.anthropic.messages.stream import MessageStreamEncoder
from bridge.http_server.anthropic.messages.wire import MessagesRequest
from bridge.http_server.anthropic.openapi import describe
from bridge.http_server.context import CallOptions, ServerContext
from bridge.http_server.dialect import Call, StreamedCall, WholeCall
from bridge.http_server.disconnect import disconnected, run_until
from bridge.http_server.endpoint import received, respond
from bridge.http_server.errors import json_response
from bridge.http_server.sse import ignored_header


def add_message_routes(router: APIRouter, server: ServerContext) -> None:
    """Add the routes of messages."""

    async def decode(body: object, options: CallOptions) -> Call:
        call = await options.off_loop(decode_message_request, body, options)
        id = f"msg_{server.new_id()}"
        if call.stream:
            encoder = MessageStreamEncoder(id=id, omit_thinking=call.omit_thinking)
            return StreamedCall(call.request, encoder)
        return WholeCall(call.request, MessageCollector(id=id, omit_thinking=call.omit_thinking))

    @router.post("/v1/messages", **describe(MessagesRequest, stream=True))
    async def create_message(request: Request) -> Response:
        """Answer a conversation, whole or as a stream of events."""
        return await respond(request, server, decode)

    @router.post("/v1/messages/count_tokens", **describe(MessagesRequest))
    async def count_tokens(request: Request) -> Response:
        """Estimate the input tokens of a request for a message, without answering it."""

        async def decode(body: object, options: CallOptions) -> CompletionRequest:
            decoding = partial(decode_message_request, counting=True)
            call = await options.off_loop(decoding, body, options)
            return options.applied_to(call.request)

        asked = await received(request, server, decode)
        counting = server.service.count_tokens(asked)
        tokens = await run_until(counting, disconnected(request.receive))
        return json_response({"input_tokens": tokens}, headers=ignored_header(asked.ignored))
