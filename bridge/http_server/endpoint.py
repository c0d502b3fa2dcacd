"""A completion over HTTP, from body to reply, in any dialect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from bridge.core.access import Upload
from bridge.core.contract import CompletionRequest, Service, Started
from bridge.core.system import LARGE_BYTES
from bridge.http_server.body import read_json
from bridge.http_server.context import (
    CallOptions,
    ServerContext,
    call_options,
    caller_of,
    request_id_of,
)
from bridge.http_server.dialect import Call, Collector, Decoder, DetachedCall, StreamedCall
from bridge.http_server.disconnect import disconnected, run_until
from bridge.http_server.errors import json_response
from bridge.http_server.sse import EventStreamResponse, ignored_header, payer_header

T = TypeVar("T")


async def respond(request: Request, server: ServerContext, decode: Decoder) -> Response:
    """Read, decode and answer a request; a client that disconnects ends the work."""

    async def decoded(body: object, options: CallOptions) -> tuple[Call, CompletionRequest]:
        call = await decode(body, options)
        return call, options.applied_to(call.request)

    with recording_refusals(request, server):
        call, asked = await received(request, server, decoded)
    if isinstance(call, StreamedCall):
        return EventStreamResponse(
            server.service.complete(asked),
            call.encoder,
            settings=server.settings,
            ignored=asked.ignored,
            conclude=call.conclude,
        )
    if isinstance(call, DetachedCall):
        return await call.start(asked)
    collecting = _collect(server.service, asked, call.collector)
    ignored, payer = await run_until(collecting, disconnected(request.receive))
    reply = call.collector.reply() if call.conclude is None else await call.conclude()
    return json_response(reply, headers={**ignored_header(ignored), **payer_header(payer)})


async def received(
    request: Request,
    server: ServerContext,
    decode: Callable[[object, CallOptions], Awaitable[T]],
) -> T:
    """Read and decode a body."""
    with server.uploads.receiving(caller_of(request.scope)) as upload:
        options = call_options(request.scope, server.settings)
        body = await _read_body(request, server, upload)
        return await decode(body, replace(options, large=upload.size > LARGE_BYTES))


async def _read_body(request: Request, server: ServerContext, upload: Upload) -> object:
    settings = server.settings
    body = await read_json(request, settings.max_body_bytes, settings.body_seconds, upload)
    if isinstance(body, dict) and isinstance(model := body.get("model"), str):
        request.state.model = model
    return body


@contextmanager
def recording_refusals(request: Request, server: ServerContext) -> Iterator[None]:
    """Have the core record a request that cannot be decoded; it records the others itself."""
    try:
        yield
    except Exception as error:
        asked = CompletionRequest((), model=getattr(request.state, "model", None))
        options = CallOptions(request_id_of(request.scope), caller=caller_of(request.scope))
        server.service.refused(options.applied_to(asked), error)
        raise


async def _collect(
    service: Service, asked: CompletionRequest, collector: Collector
) -> tuple[tuple[str, ...], str]:
    """Collect a complete answer; return the ignored parameters and the payer."""
    ignored, payer = asked.ignored, ""
    async with aclosing(service.complete(asked)) as events:
        async for event in events:
            if isinstance(event, Started):
                ignored += event.ignored
                payer = event.payer
            collector.feed(event)
    return ignored, payer
