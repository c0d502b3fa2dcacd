"""`GET /`, the status page, and `GET /bridge/state`, its data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.core.contract import PoolState, UsageLimits
from bridge.http_server.context import ServerContext
from bridge.http_server.dialect import JsonDict
from bridge.http_server.errors import json_response
from bridge.http_server.openapi import describe
from bridge.http_server.operations.health import payer_object

FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/usage.js": ("usage.js", "text/javascript; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}

_HEADERS: Final = {
    # No external resources, no inline scripts or styles, no embedding in frames.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def page_routes(server: ServerContext) -> APIRouter:
    """Build the routes of the page. Its files are public; the state requires an admin key."""
    router = APIRouter()
    folder = files("bridge.http_server.page")
    for path, (name, kind) in FILES.items():
        content = folder.joinpath(name).read_bytes()
        router.add_api_route(path, _serve(content, kind), include_in_schema=False)

    @router.get("/bridge/state", **describe())
    async def state(request: Request) -> Response:
        """The state of the pool and the usage limits, and the latest requests without content."""
        content = {
            "replica": server.settings.replica,
            "version": server.version,
            "grpc": server.settings.grpc,
            "keys": server.asks_for_keys(),
            "pool": pool_object(server.service.pool_state()),
            "recent": list(server.recent()),
        }
        return json_response(content, headers={"cache-control": "no-store"})

    return router


def _serve(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return serve


def pool_object(state: PoolState) -> JsonDict:
    """Return the state of the pool with the core's own names; times in Unix seconds."""
    health = asdict(state.health)
    return {
        **health,
        "max_processes": state.max_processes,
        "totals": asdict(state.totals),
        "plan": _plan(state.plan),
        "payers": [
            {
                **payer_object(payer),
                "subscription": payer.kind.subscription,
                "plan": _plan(payer.plan),
            }
            for payer in state.payers
        ],
    }


def _plan(plan: UsageLimits | None) -> JsonDict | None:
    return None if plan is None else asdict(plan)
