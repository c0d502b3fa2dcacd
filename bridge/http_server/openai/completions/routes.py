"""The legacy `POST /v1/completions`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.http_server.context import CallOptions, ServerContext
from bridge.http_server.dialect import Call, StreamedCall, WholeCall
from bridge.http_server.endpoint import respond
from bridge.http_server.openai.completions.decode import decode_text_completion
from bridge.http_server.openai.completions.encode import TextReplyCollector, TextStreamEncoder
from bridge.http_server.openai.completions.wire import TextCompletionRequest
from bridge.http_server.openai.shared.openapi import describe


def add_completion_routes(router: APIRouter, server: ServerContext) -> None:
    async def decode(body: object, options: CallOptions) -> Call:
        call = await options.off_loop(decode_text_completion, body, options)
        id, created = f"cmpl-{server.new_id()}", int(server.clock())
        if call.stream:
            encoder = TextStreamEncoder(id=id, created=created, include_usage=call.include_usage)
            return StreamedCall(call.request, encoder)
        return WholeCall(call.request, TextReplyCollector(id=id, created=created))

    @router.post("/v1/completions", **describe(TextCompletionRequest, stream=True))
    async def create_completion(request: Request) -> Response:
        """Create a text completion, as one object or as a stream of chunks."""
        return await respond(request, server, decode)
