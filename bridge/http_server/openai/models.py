"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bridge.http_server.context import ServerContext, caller_of
from bridge.http_server.disconnect import disconnected, run_until
from bridge.http_server.errors import json_response
from bridge.http_server.openai.shared.openapi import describe
from bridge.http_server.openai.shared.replies import model_object


def add_model_routes(router: APIRouter, server: ServerContext) -> None:
    # It is unknown when a model became available; clients require a number.
    created = int(server.clock())

    @router.get("/v1/models", **describe())
    async def list_models(request: Request) -> Response:
        """List the models that the key may use, with their aliases."""
        listing = server.service.models(caller_of(request.scope))
        models = await run_until(listing, disconnected(request.receive))
        data = [model_object(model, created) for model in models]
        return json_response({"object": "list", "data": data})

    @router.get("/v1/models/{model_id:path}", **describe())
    async def retrieve_model(request: Request, model_id: str) -> Response:
        """Retrieve a model; its id may contain slashes."""
        if not model_id:
            raise HTTPException(404)
        finding = server.service.model(model_id, caller_of(request.scope))
        model = await run_until(finding, disconnected(request.receive))
        return json_response(model_object(model, created))
