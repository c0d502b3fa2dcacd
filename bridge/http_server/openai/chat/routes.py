"""`POST /v1/chat/completions`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.http_server.context import CallOptions, ServerContext
from bridge.http_server.dialect import Call, StreamedCall, WholeCall
from bridge.http_server.endpoint import respond
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.chat.reply import ChatReplyCollector
from bridge.http_server.openai.chat.stream import ChatStreamEncoder
from bridge.http_server.openai.chat.wire import ChatCompletionRequest
from bridge.http_server.openai.shared.openapi import describe


def add_chat_routes(router: APIRouter, server: ServerContext) -> None:
    async def decode(body: object, options: CallOptions) -> Call:
        call = await options.off_loop(decode_chat, body, options)
        id, created = f"chatcmpl-{server.new_id()}", int(server.clock())
        if call.stream:
            encoder = ChatStreamEncoder(
                id=id,
                created=created,
                include_usage=call.include_usage,
                include_thinking=call.request.include_thinking,
                function_call_form=call.function_call_form,
            )
            return StreamedCall(call.request, encoder)
        collector = ChatReplyCollector(
            id=id,
            created=created,
            include_thinking=call.request.include_thinking,
            function_call_form=call.function_call_form,
            metadata=call.metadata,
        )
        return WholeCall(call.request, collector)

    @router.post("/v1/chat/completions", **describe(ChatCompletionRequest, stream=True))
    async def create_chat_completion(request: Request) -> Response:
        """Create a chat completion, as one object or as a stream of chunks."""
        return await respond(request, server, decode)
