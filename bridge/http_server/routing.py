"""Selects the dialect of a request, and creates routes that serve only their own dialect."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from bridge.http_server.context import ServerContext
from bridge.http_server.dialect import Dialect, dialect_of


class DialectRouting:
    """Selects the dialect of each request, before anything about it can fail."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        """The first dialect answers requests that no other claims."""
        if not dialects:
            raise ValueError("The HTTP server needs a dialect to answer in.")
        self._dialects = tuple(dialects)
        self._routers: list[tuple[Dialect, APIRouter]] = []

    def add_to(self, app: FastAPI, server: ServerContext) -> None:
        """Add the routes and the schemas of all dialects to an app."""
        for dialect in self._dialects:
            router = APIRouter(route_class=_route_class(dialect))
            dialect.add_routes(router, server)
            self._routers.append((dialect, router))
            app.include_router(router)

    def dialect_for(self, scope: Scope) -> Dialect:
        """The dialect that the URL belongs to; for a shared URL, the one that claims it."""
        if len(self._dialects) == 1:
            return self._dialects[0]
        serving = [each for each, router in self._routers if _serves(router, scope["path"])]
        candidates = serving or self._dialects
        if len(candidates) == 1:
            return candidates[0]
        return next((each for each in candidates if each.speaks(scope)), candidates[0])


def _serves(router: APIRouter, path: str) -> bool:
    return any(
        isinstance(route, APIRoute) and route.path_regex.match(path) for route in router.routes
    )


def _route_class(dialect: Dialect) -> type[APIRoute]:
    class DialectRoute(APIRoute):
        """A route that does not exist for requests in another dialect."""

        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            if dialect_of(scope) is not dialect:
                return Match.NONE, {}
            return super().matches(scope)

    return DialectRoute
