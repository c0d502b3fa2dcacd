"""`GET /health`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.http_server.context import Door
from bridge.http_server.errors import json_response
from bridge.http_server.openapi import describe


def health_routes(door: Door) -> APIRouter:
    """Build the route that says how things stand."""
    router = APIRouter()

    @router.get("/health", **describe())
    async def health(request: Request) -> Response:
        """Say whether completions work: 200 if so, else 503."""
        now = door.service.health()
        content = {
            "status": now.status,
            "detail": now.detail,
            "version": door.version,
            "cli_version": now.cli_version,
            "logged_in": now.logged_in,
            "account": now.account,
            "simulated": now.simulated,
            "lacking": list(now.lacking),
            "pool": {
                "size": now.pool_size,
                "processes": now.processes,
                "waiting": now.waiting,
            },
        }
        return json_response(content, 200 if now.serving else 503)

    return router
