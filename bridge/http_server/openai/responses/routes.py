"""`POST /v1/responses`, and the endpoints for stored responses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Literal, TypeAlias
from weakref import WeakValueDictionary

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.answers import ConversationStore, ResponseStore, StoredResponse
from bridge.core.contract import (
    InvalidRequestError,
    NotFoundError,
    StoreUnavailableError,
    UnsupportedError,
)
from bridge.http_server.context import CallOptions, ServerContext, owner_of
from bridge.http_server.dialect import Call, Decoder, JsonDict, StreamedCall, WholeCall
from bridge.http_server.endpoint import respond
from bridge.http_server.errors import json_response
from bridge.http_server.openai.responses.compaction.answers import (
    CompactionCollector,
    CompactionStreamEncoder,
    add_compacting_route,
)
from bridge.http_server.openai.responses.conversations.routes import add_conversation_routes
from bridge.http_server.openai.responses.counting import add_counting_route
from bridge.http_server.openai.responses.decode import ResponseCall
from bridge.http_server.openai.responses.encode import ResponseCollector, ResponseStreamEncoder
from bridge.http_server.openai.responses.past import SHOWN_ID
from bridge.http_server.openai.responses.reading import ResponseReader
from bridge.http_server.openai.responses.replies import page_of
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.shared.openapi import describe

logger = logging.getLogger(__name__)

Running: TypeAlias = WeakValueDictionary[tuple[str, str], ResponseCollector]
"""The responses that are being answered, by their owner and id, for as long as they are."""


def add_response_routes(
    router: APIRouter, server: ServerContext, store: ResponseStore | None
) -> None:
    """Add the routes of responses."""
    reader = ResponseReader(server, store)
    running: Running = WeakValueDictionary()

    @router.post("/v1/responses", **describe(ResponsesRequest, stream=True))
    async def create_response(request: Request) -> Response:
        """Create a response, as one object or as a stream of events."""
        return await respond(request, server, _decoder(request, server, store, reader, running))

    add_counting_route(router, server, reader)
    add_compacting_route(router, server, reader)
    add_conversation_routes(router, server, store, reader)
    _add_routes_of_kept(router, store)
    _add_cancel_route(router, store, running)
    _add_list_of_items(router, server, store)


def _add_routes_of_kept(router: APIRouter, store: ResponseStore | None) -> None:
    # These are no ids of responses.
    for url in ("/v1/responses/input_tokens", "/v1/responses/compact"):
        router.add_api_route(url, _only_post, methods=["GET", "DELETE"], include_in_schema=False)

    @router.get("/v1/responses/{response_id}", **describe())
    async def retrieve_response(
        request: Request, response_id: str, stream: bool = False
    ) -> Response:
        """Retrieve a stored response."""
        kept = await _find(store, request, response_id)
        if stream:
            raise UnsupportedError(
                "Only background responses can be streamed again, and this server does not "
                "support background mode.",
                field="stream",
            )
        return json_response(kept.reply)

    @router.delete("/v1/responses/{response_id}", **describe())
    async def delete_response(request: Request, response_id: str) -> Response:
        """Delete a stored response."""
        if store is None or not await store.delete(owner_of(request.scope), response_id):
            raise _not_found(response_id)
        return json_response({"id": response_id, "object": "response", "deleted": True})


async def _only_post() -> None:
    raise HTTPException(405)


def _add_cancel_route(router: APIRouter, store: ResponseStore | None, running: Running) -> None:
    @router.post("/v1/responses/{response_id}/cancel", **describe())
    async def cancel_response(request: Request, response_id: str) -> Response:
        """Always an error: only background responses can be cancelled."""
        if (owner_of(request.scope), response_id) not in running:
            await _find(store, request, response_id)
        raise InvalidRequestError(
            "Only background responses can be cancelled, and this server does not support "
            "background mode. To cancel a response that is running, close the connection.",
            field="response_id",
        )


def _add_list_of_items(
    router: APIRouter, server: ServerContext, store: ResponseStore | None
) -> None:
    @router.get("/v1/responses/{response_id}/input_items", **describe())
    async def list_input_items(
        request: Request,
        response_id: str,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> Response:
        """List the input items of a stored response, those of the earlier conversation included, in
        pages.
        """
        kept = await _find(store, request, response_id)
        assert store is not None
        items: Sequence[JsonDict] = kept.input
        if kept.parent is not None:
            most = server.settings.max_body_bytes
            before = await store.history(owner_of(request.scope), kept.parent, most)
            items = [*(before or ()), *items]
        return json_response(page_of(items, limit, order, after))


def _decoder(
    request: Request,
    server: ServerContext,
    store: ResponseStore | None,
    reader: ResponseReader,
    running: Running,
) -> Decoder:
    """Decode what a request asks for, together with what is stored of its past."""
    owner = owner_of(request.scope)

    async def decode(body: object, options: CallOptions) -> Call:
        created = int(server.clock())
        call = await reader.decode(request, body, options)
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
            return await _stored_reply(store, owner, call, collector)

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


async def _stored_reply(
    store: ResponseStore | None, owner: str, call: ResponseCall, collector: ResponseCollector
) -> JsonDict:
    """Return the complete response once it is stored; it says if that was not possible."""
    reply = collector.reply()
    if call.conversation is not None:
        assert store is not None
        items = [*call.items, *reply["output"]]
        if not await _added(store.conversations, owner, call.conversation, items):
            reply["conversation"] = None
    if call.store:
        assert store is not None
        response = StoredResponse(collector.id, call.previous, call.items, reply)
        if not await store.put(owner, response):
            reply["store"] = False
    return reply


async def _added(store: ConversationStore, owner: str, id: str, items: Sequence[JsonDict]) -> bool:
    with suppress(StoreUnavailableError):
        if await store.add(owner, id, items):
            return True
    logger.warning("an answer is not added to its conversation: it is gone, or too large")
    return False


async def _find(store: ResponseStore | None, request: Request, id: str) -> StoredResponse:
    kept = None if store is None else await store.get(owner_of(request.scope), id)
    if kept is None:
        raise _not_found(id)
    return kept


def _not_found(id: str) -> NotFoundError:
    return NotFoundError(
        f"Response with id '{id[:SHOWN_ID]}' not found.",
        field="response_id",
        reason="RESPONSE_NOT_FOUND",
    )
