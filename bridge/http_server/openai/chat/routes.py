"""`POST /v1/chat/completions`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.http_server.answering import answer_whole, read_call
from bridge.http_server.context import Door
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.chat.reply import ChatReplyCollector
from bridge.http_server.openai.chat.stream import ChatStreamEncoder
from bridge.http_server.openai.chat.wire import ChatCompletionRequest
from bridge.http_server.openapi import describe
from bridge.http_server.sse import EventStreamResponse


def chat_routes(door: Door) -> APIRouter:
    """Build the routes of chat completions."""
    router = APIRouter()

    @router.post("/v1/chat/completions", **describe(ChatCompletionRequest, stream=True))
    async def create_chat_completion(request: Request) -> Response:
        """Answer a chat, whole or as a stream of chunks."""
        call = await read_call(request, door, decode_chat)
        id = f"chatcmpl-{door.new_id()}"
        created = int(door.clock())
        if call.stream:
            encoder = ChatStreamEncoder(
                id=id,
                created=created,
                include_usage=call.include_usage,
                include_thinking=call.request.include_thinking,
                function_call_form=call.function_call_form,
            )
            return EventStreamResponse(
                door.service.complete(call.request),
                encoder,
                settings=door.settings,
                ignored=call.request.ignored,
            )
        collector = ChatReplyCollector(
            id=id,
            created=created,
            include_thinking=call.request.include_thinking,
            function_call_form=call.function_call_form,
            metadata=call.metadata,
        )
        return await answer_whole(request, door.service, call.request, collector)

    return router
