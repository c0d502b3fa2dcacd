"""Running a completion for a request, streamed or whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import CompletionRequest, Event, Service, Started
from bridge.http_server.body import read_json
from bridge.http_server.context import CallOptions, Door, call_options, caller_of, request_id_of
from bridge.http_server.disconnect import disconnected, run_until
from bridge.http_server.errors import json_response
from bridge.http_server.openai.shared.call import Call
from bridge.http_server.openai.shared.replies import JsonDict
from bridge.http_server.sse import ignored_header


class Collector(Protocol):
    """What makes one object of an answer."""

    def feed(self, event: Event) -> bytes:
        """Take one event."""
        ...

    def reply(self) -> JsonDict:
        """Build the object; raises if the answer broke off."""
        ...


async def read_call(
    request: Request, door: Door, decode: Callable[[object, CallOptions], Call]
) -> Call:
    """Read and decode what is asked for."""
    with noting_refusals(request, door):
        options = call_options(request.scope, door.settings)
        call = decode(await read_body(request, door), options)
        return replace(call, request=within(call.request, options))


async def read_body(request: Request, door: Door) -> object:
    """Read the JSON of a request, in the bounds of size and of time."""
    body = await read_json(request, door.settings.max_body_bytes, door.settings.body_seconds)
    if isinstance(body, dict) and isinstance(model := body.get("model"), str):
        request.state.model = model
    return body


@contextmanager
def noting_refusals(request: Request, door: Door) -> Iterator[None]:
    """Have the core take note of a request that cannot be read; it knows of the others."""
    try:
        yield
    except Exception as error:
        asked = CompletionRequest(
            (),
            model=getattr(request.state, "model", None),
            request_id=request_id_of(request.scope),
            caller=caller_of(request.scope),
            door="http",
        )
        door.service.refused(asked, error)
        raise


def within(asked: CompletionRequest, options: CallOptions) -> CompletionRequest:
    """Put the limits of time that the headers set onto a request."""
    return replace(
        asked,
        queue_timeout=options.queue_timeout,
        first_token_timeout=options.first_token_timeout,
        idle_timeout=options.idle_timeout,
    )


async def answer_whole(
    request: Request, service: Service, asked: CompletionRequest, collector: Collector
) -> Response:
    """Answer with one object; the work ends early if the client goes."""
    ignored = await collect(request, service, asked, collector)
    return json_response(collector.reply(), headers=ignored_header(ignored))


async def collect(
    request: Request, service: Service, asked: CompletionRequest, collector: Collector
) -> tuple[str, ...]:
    """Gather an answer until it ends or the client goes, and return what was ignored."""
    return await run_until(_collect(service, asked, collector), disconnected(request.receive))


async def _collect(
    service: Service, asked: CompletionRequest, collector: Collector
) -> tuple[str, ...]:
    ignored = asked.ignored
    async with aclosing(service.complete(asked)) as events:
        async for event in events:
            if isinstance(event, Started):
                ignored += event.ignored
            collector.feed(event)
    return ignored
