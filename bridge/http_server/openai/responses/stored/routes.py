"""The endpoints for responses that were answered before, or are answered in the background."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias
from weakref import WeakValueDictionary

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import (
    AnswerElsewhereError,
    InvalidRequestError,
    StoreUnavailableError,
    UnsupportedError,
)
from bridge.core.system import off_loop
from bridge.http_server.context import ServerContext, owner_of
from bridge.http_server.dialect import JsonDict
from bridge.http_server.errors import json_response
from bridge.http_server.openai.responses.background.ids import response_id as response_id_of
from bridge.http_server.openai.responses.background.responses import (
    MANY_EVENTS,
    BackgroundResponse,
    BackgroundResponses,
)
from bridge.http_server.openai.responses.encode import ResponseCollector
from bridge.http_server.openai.responses.replies import page_of
from bridge.http_server.openai.responses.stored.keeping import Keeper, not_found
from bridge.http_server.openai.shared.openapi import describe

Running: TypeAlias = WeakValueDictionary[tuple[str, str], ResponseCollector]
"""The responses that are answered to a client that waits, by their owner and id."""


def add_stored_routes(
    router: APIRouter,
    server: ServerContext,
    keeper: Keeper,
    running: Running,
    background: BackgroundResponses,
) -> None:
    """Add the routes of responses by id."""
    # These are no ids of responses.
    for url in ("/v1/responses/input_tokens", "/v1/responses/compact"):
        router.add_api_route(url, _only_post, methods=["GET", "DELETE"], include_in_schema=False)
    _add_retrieving_route(router, keeper, background)

    @router.delete("/v1/responses/{response_id}", **describe())
    async def delete_response(request: Request, response_id: str) -> Response:
        """Delete a response. One that runs in the background is cancelled."""
        owner = owner_of(request.scope)
        # It is stored once it has ended.
        recorded = await background.forget(owner, response_id)
        if not await keeper.delete(owner, response_id_of(response_id)) and not recorded:
            raise not_found(response_id)
        return json_response({"id": response_id, "object": "response", "deleted": True})

    @router.post("/v1/responses/{response_id}/cancel", **describe())
    async def cancel_response(request: Request, response_id: str) -> Response:
        """Cancel a response that runs in the background; one that has ended stays as it is."""
        owner = owner_of(request.scope)
        reply = await background.cancelled(owner, response_id)
        if reply is not None:
            return json_response(reply)
        if (owner, response_id) not in running:
            kept = await keeper.find(owner, response_id)
            if kept.reply.get("background"):
                return json_response(await background.as_stored(owner, kept.reply))
        raise InvalidRequestError(
            "Only background responses can be cancelled. To cancel another one that is running, "
            "close the connection.",
            field="response_id",
        )

    _add_list_of_items(router, server, keeper)


async def _only_post() -> None:
    raise HTTPException(405)


def _add_retrieving_route(
    router: APIRouter, keeper: Keeper, background: BackgroundResponses
) -> None:
    @router.get("/v1/responses/{response_id}", **describe())
    async def retrieve_response(
        request: Request,
        response_id: str,
        stream: bool = False,
        starting_after: Annotated[int | None, Query(ge=0)] = None,
    ) -> Response:
        """Retrieve a response; stream the events of one that was started in the background."""
        owner = owner_of(request.scope)
        if starting_after is not None and not stream:
            raise InvalidRequestError(
                "'starting_after' needs 'stream=true': it is the number of an event.",
                field="starting_after",
            )
        try:
            found = await background.find(owner, response_id)
        except (AnswerElsewhereError, StoreUnavailableError):
            # How far it is may be stored; its events are with the server that answers it.
            if stream:
                raise
            found = None
        if found is not None:
            if stream:
                await _check_number(found, starting_after)
                return background.streamed(found, starting_after)
            return await found.response()
        kept = await keeper.find(owner, response_id)
        if stream:
            raise UnsupportedError(
                "Only background responses can be streamed again, and only for some time after "
                "their end. Retrieve it without 'stream'.",
                field="stream",
            )
        return json_response(await background.as_stored(owner, kept.reply))


async def _check_number(found: BackgroundResponse, after: int | None) -> None:
    """Raise InvalidRequestError if a response has had no event with this number."""
    answer = found.answer
    if after is None or answer is None:
        return
    encoder = found.encoder(sys.maxsize)
    found.opening(encoder)
    events = tuple(answer.recorded)
    count = await off_loop(len(events) > MANY_EVENTS, encoder.count, events, answer.error)
    if after >= count:
        raise InvalidRequestError(
            f"The last event of the response so far has the number {count - 1}, so there is "
            f"nothing after number {after}.",
            field="starting_after",
        )


def _add_list_of_items(router: APIRouter, server: ServerContext, keeper: Keeper) -> None:
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
        owner = owner_of(request.scope)
        kept = await keeper.find(owner, response_id)
        items: Sequence[JsonDict] = kept.input
        if kept.parent is not None:
            most = server.settings.max_body_bytes
            items = [*await keeper.history(owner, kept.parent, most), *items]
        return json_response(page_of(items, limit, order, after))
