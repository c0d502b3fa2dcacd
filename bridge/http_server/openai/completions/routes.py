"""The legacy `POST /v1/completions`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.http_server.answering import answer_whole, read_call
from bridge.http_server.context import Door
from bridge.http_server.openai.completions.decode import decode_text_completion
from bridge.http_server.openai.completions.encode import TextReplyCollector, TextStreamEncoder
from bridge.http_server.openai.completions.wire import TextCompletionRequest
from bridge.http_server.openapi import describe
from bridge.http_server.sse import EventStreamResponse


def completion_routes(door: Door) -> APIRouter:
    """Build the routes of text completions."""
    router = APIRouter()

    @router.post("/v1/completions", **describe(TextCompletionRequest, stream=True))
    async def create_completion(request: Request) -> Response:
        """Answer a prompt, whole or as a stream of chunks."""
        call = await read_call(request, door, decode_text_completion)
        id = f"cmpl-{door.new_id()}"
        created = int(door.clock())
        if call.stream:
            encoder = TextStreamEncoder(id=id, created=created, include_usage=call.include_usage)
            return EventStreamResponse(
                door.service.complete(call.request),
                encoder,
                settings=door.settings,
                ignored=call.request.ignored,
            )
        collector = TextReplyCollector(id=id, created=created)
        return await answer_whole(request, door.service, call.request, collector)

    return router
