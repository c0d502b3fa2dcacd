"""`GET /metrics`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bridge.http_server.context import ServerContext
from bridge.http_server.openapi import describe


def metrics_routes(server: ServerContext) -> APIRouter:
    """Build the route for Prometheus; without metrics there is none."""
    router = APIRouter()
    render = server.metrics
    if render is None:
        return router

    @router.get("/metrics", **describe(text=True))
    async def metrics(request: Request) -> Response:
        """The server's metrics, in the Prometheus or the OpenMetrics text format."""
        body, media_type = render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": media_type, "cache-control": "no-store"})

    return router
