"""`POST /v1/responses`, and the endpoints for stored responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.answers import ResponseStore, StoredResponse
from bridge.core.contract import (
    InvalidRequestError,
    NotFoundError,
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
from bridge.http_server.openai.responses.counting import add_counting_route
from bridge.http_server.openai.responses.decode import ResponseCall
from bridge.http_server.openai.responses.encode import ResponseCollector, ResponseStreamEncoder
from bridge.http_server.openai.responses.past import SHOWN_ID
from bridge.http_server.openai.responses.reading import ResponseReader
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.shared.openapi import describe


def add_response_routes(
    router: APIRouter, server: ServerContext, store: ResponseStore | None
) -> None:
    """Add the routes of responses."""
    reader = ResponseReader(server, store)

    @router.post("/v1/responses", **describe(ResponsesRequest, stream=True))
    async def create_response(request: Request) -> Response:
        """Create a response, as one object or as a stream of events."""
        return await respond(request, server, _decoder(request, server, store, reader))

    add_counting_route(router, server, reader)
    add_compacting_route(router, server, reader)
    _add_routes_of_kept(router, store)
    _add_list_of_items(router, server, store)


def _add_routes_of_kept(router: APIRouter, store: ResponseStore | None) -> None:
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

    @router.post("/v1/responses/{response_id}/cancel", **describe())
    async def cancel_response(request: Request, response_id: str) -> Response:
        """Always an error: only background responses can be cancelled."""
        await _find(store, request, response_id)
        raise InvalidRequestError(
            "Only background responses can be cancelled, and this server does not support "
            "background mode. To cancel a streamed response, close the connection."
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
        return json_response(_page(items, limit, order, after))


def _decoder(
    request: Request, server: ServerContext, store: ResponseStore | None, reader: ResponseReader
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
    if call.store:
        assert store is not None
        response = StoredResponse(collector.id, call.previous, call.items, reply)
        if not await store.put(owner, response):
            reply["store"] = False
    return reply


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


def _page(
    items: Sequence[JsonDict], limit: int, order: Literal["asc", "desc"], after: str | None
) -> JsonDict:
    """Return a page of items in OpenAI's list format."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    start = 0
    if after is not None:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise InvalidRequestError(
                f"'after' is '{after[:SHOWN_ID]}', which is not one of the items.", field="after"
            )
        start = ids.index(after) + 1
    page = ordered[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(ordered),
    }
