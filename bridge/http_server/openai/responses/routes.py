"""`POST /v1/responses`, and the routes of all else of the Responses API."""

from __future__ import annotations

from weakref import WeakValueDictionary

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.answers import ResponseStore
from bridge.core.contract import CompletionRequest
from bridge.http_server.context import CallOptions, ServerContext, owner_of
from bridge.http_server.dialect import (
    Call,
    Decoder,
    DetachedCall,
    JsonDict,
    StreamedCall,
    WholeCall,
)
from bridge.http_server.endpoint import respond
from bridge.http_server.openai.responses.background.responses import BackgroundResponses
from bridge.http_server.openai.responses.background.rules import Storage
from bridge.http_server.openai.responses.compaction.answers import (
    CompactionCollector,
    CompactionStreamEncoder,
    add_compacting_route,
)
from bridge.http_server.openai.responses.conversations.routes import add_conversation_routes
from bridge.http_server.openai.responses.counting import add_counting_route
from bridge.http_server.openai.responses.decode import ResponseCall
from bridge.http_server.openai.responses.encode import ResponseCollector, ResponseStreamEncoder
from bridge.http_server.openai.responses.reading import ResponseReader
from bridge.http_server.openai.responses.stored.keeping import Keeper
from bridge.http_server.openai.responses.stored.routes import Running, add_stored_routes
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.shared.openapi import describe


def add_response_routes(
    router: APIRouter, server: ServerContext, store: ResponseStore | None
) -> None:
    """Add the routes of responses."""
    reader, keeper = ResponseReader(server, store), Keeper(store)
    running: Running = WeakValueDictionary()
    background = BackgroundResponses(server, keeper)

    @router.post("/v1/responses", **describe(ResponsesRequest, stream=True))
    async def create_response(request: Request) -> Response:
        """Create a response, as one object or as a stream of events."""
        decoder = _decoder(request, server, reader, keeper, running, background)
        return await respond(request, server, decoder)

    add_counting_route(router, server, reader)
    add_compacting_route(router, server, reader)
    add_conversation_routes(router, server, store, reader)
    add_stored_routes(router, server, keeper, running, background)


def _decoder(
    request: Request,
    server: ServerContext,
    reader: ResponseReader,
    keeper: Keeper,
    running: Running,
    background: BackgroundResponses,
) -> Decoder:
    """Decode what a request asks for, together with what is stored of its past."""
    owner = owner_of(request.scope)

    async def decode(body: object, options: CallOptions) -> Call:
        created = int(server.clock())
        call = await reader.decode(request, body, options)
        if call.storage is Storage.FROM_ITS_START:

            async def start(asked: CompletionRequest) -> Response:
                return await background.start(owner, call, asked)

            return DetachedCall(call.request, start)
        collector = _collecting(call)(
            hex=call.hex,
            created=created,
            echo=call.echo,
            store=call.store,
            clock=server.clock,
            tools=call.tools,
        )
        running[owner, collector.id] = collector

        async def reply() -> JsonDict:
            return await keeper.keep(owner, call, collector.reply())

        if not isinstance(collector, ResponseStreamEncoder):
            return WholeCall(call.request, collector, reply)
        encoder = collector

        async def last_frame() -> bytes:
            return encoder.last_frame(await reply())

        return StreamedCall(call.request, encoder, last_frame)

    return decode


def _collecting(call: ResponseCall) -> type[ResponseCollector]:
    if call.compacts:
        return CompactionStreamEncoder if call.stream else CompactionCollector
    return ResponseStreamEncoder if call.stream else ResponseCollector
