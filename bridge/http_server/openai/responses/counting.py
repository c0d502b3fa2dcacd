"""`POST /v1/responses/input_tokens`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import CompletionRequest
from bridge.http_server.context import CallOptions, ServerContext
from bridge.http_server.disconnect import disconnected, run_until
from bridge.http_server.endpoint import received, recording_refusals
from bridge.http_server.errors import json_response
from bridge.http_server.openai.responses.decode import Purpose
from bridge.http_server.openai.responses.reading import ResponseReader
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.shared.openapi import describe
from bridge.http_server.sse import ignored_header


def add_counting_route(router: APIRouter, server: ServerContext, reader: ResponseReader) -> None:
    """Add the route that counts."""

    @router.post("/v1/responses/input_tokens", **describe(ResponsesRequest))
    async def count_input_tokens(request: Request) -> Response:
        """Estimate the input tokens of a request for a response, without answering it.

        What does not change the input has no effect.
        """

        async def decode(body: object, options: CallOptions) -> CompletionRequest:
            call = await reader.decode(request, body, options, Purpose.COUNT)
            return options.applied_to(call.request)

        with recording_refusals(request, server):
            asked = await received(request, server, decode)
        counting = server.service.count_tokens(asked)
        tokens = await run_until(counting, disconnected(request.receive))
        reply = {"object": "response.input_tokens", "input_tokens": tokens}
        return json_response(reply, headers=ignored_header(asked.ignored))
