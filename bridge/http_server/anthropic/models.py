"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import InvalidRequestError, Model
from bridge.http_server.anthropic.openapi import describe
from bridge.http_server.context import ServerContext, caller_of
from bridge.http_server.dialect import JsonDict
from bridge.http_server.disconnect import disconnected, run_until
from bridge.http_server.errors import json_response

PAGE: Final = 20
MAX_PAGE: Final = 1_000

UNKNOWN_DATE: Final = "1970-01-01T00:00:00Z"
"""What the API itself says where it does not know when a model came out."""


def add_model_routes(router: APIRouter, server: ServerContext) -> None:
    """Add the routes of models."""
    # Not described: OpenAI's API has the same URLs, and a description has room for one.
    unlisted = {**describe(), "include_in_schema": False}

    @router.get("/v1/models", **unlisted)
    async def list_models(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = PAGE,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> Response:
        """List the models on offer to the key, with their aliases."""
        listing = server.service.models(caller_of(request.scope))
        models = await run_until(listing, disconnected(request.receive))
        return json_response(page_of(models, limit, before_id, after_id))

    @router.get("/v1/models/{model_id:path}", **unlisted)
    async def retrieve_model(request: Request, model_id: str) -> Response:
        """Describe one model; its id may contain slashes."""
        if not model_id:
            raise HTTPException(404)
        finding = server.service.model(model_id, caller_of(request.scope))
        model = await run_until(finding, disconnected(request.receive))
        return json_response(model_object(model))


def page_of(
    models: Sequence[Model], limit: int, before_id: str | None, after_id: str | None
) -> JsonDict:
    """Return a page of the list, after or before a model; raises InvalidRequestError."""
    ids = [model.id for model in models]
    for name, id in (("before_id", before_id), ("after_id", after_id)):
        if id is not None and id not in ids:
            raise InvalidRequestError(f"'{name}' is not the id of a model.", field=name)
    start, end = 0, len(models)
    if after_id is not None:
        start = ids.index(after_id) + 1
    if before_id is not None:
        end = ids.index(before_id)
        start = max(start, end - limit)
    page = models[start : min(end, start + limit)]
    more = start > 0 if before_id is not None else start + len(page) < end
    return {
        "data": [model_object(model) for model in page],
        "has_more": more,
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
    }


def model_object(model: Model) -> JsonDict:
    """A model on offer."""
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name or model.id,
        "created_at": UNKNOWN_DATE,
        "lifecycle": "active",
    }
