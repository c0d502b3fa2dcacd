"""Anthropic's API as a dialect of the HTTP server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from bridge.core.access import bearer
from bridge.core.contract import Allowances, BridgeError
from bridge.http_server.anthropic.errors import error_response
from bridge.http_server.anthropic.limits import LIMIT_HEADERS, limit_headers
from bridge.http_server.anthropic.messages import MessagesRequest, add_message_routes
from bridge.http_server.anthropic.models import add_model_routes
from bridge.http_server.anthropic.openapi import describe, schemas_of
from bridge.http_server.context import ServerContext
from bridge.http_server.dialect import BrowserHeaders
from bridge.http_server.errors import UnknownUrlError, json_response

_HELLO: Final = "/api/hello"
"""Claude Code asks for it, without its key, to have a connection when it needs one."""

_ABSENT: Final[Mapping[str, str]] = {
    "/v1/messages/batches": "Message batches are not supported. Send the requests one by one.",
    "/v1/files": "Files are not supported. Send their data in the messages.",
    "/v1/skills": "Skills are not supported.",
    "/v1/complete": "Text completions are not supported. Use /v1/messages.",
}
"""URLs of Anthropic's that clients may ask for, with those below them."""


class Anthropic:
    """Anthropic's API: messages and models."""

    browser_headers: Final = BrowserHeaders(
        sent=frozenset(
            {
                "anthropic-beta",
                "anthropic-dangerous-direct-browser-access",
                "anthropic-version",
                "idempotency-key",
                "x-app",
            }
        ),
        sent_prefixes=("x-stainless-",),
        read=frozenset(
            {
                "anthropic-ratelimit-unified-reset",
                "anthropic-ratelimit-unified-status",
                "request-id",
                *LIMIT_HEADERS,
            }
        ),
    )
    open_urls: Final = frozenset({_HELLO})

    def add_routes(self, router: APIRouter, server: ServerContext) -> None:
        """Add the routes of all endpoints."""
        add_message_routes(router, server)
        add_model_routes(router, server)

        @router.get(_HELLO, **describe())
        async def hello() -> Response:
            """Say that a server is here."""
            return json_response({"message": "hello"})

    def schemas(self) -> Mapping[str, Any]:
        """The bodies of the endpoints, and the envelope of errors."""
        return schemas_of(MessagesRequest)

    def speaks(self, scope: Scope) -> bool:
        """Anthropic's clients name the version of the API, and some send their key by itself."""
        names = {name for name, _ in scope["headers"]}
        by_key = b"x-api-key" in names and b"authorization" not in names
        return by_key or any(name.startswith(b"anthropic-") for name in names)

    def secret(self, headers: Headers) -> str | None:
        """The secret of `x-api-key` or of `authorization`; of both only if it is the same."""
        keys, given = headers.getlist("x-api-key"), headers.getlist("authorization")
        if len(keys) > 1 or len(given) > 1:
            return None
        secrets = {*keys, *(bearer(value) for value in given)}
        return secrets.pop() if len(secrets) == 1 else None

    def reply_headers(self, request_id: str, seconds: float) -> Mapping[str, str]:
        """The header that Anthropic's clients log."""
        return {"request-id": request_id}

    def limit_headers(self, allowances: Allowances, now: float) -> Mapping[str, str]:
        """The headers of a key's limits."""
        return limit_headers(allowances)

    def missing(self, path: str) -> BridgeError | None:
        """What Anthropic serves there."""
        for url, said in _ABSENT.items():
            if path == url or path.startswith(f"{url}/"):
                return UnknownUrlError(said)
        return None

    def error_response(
        self, error: BridgeError, request_id: str, scope: Scope | None = None
    ) -> Response:
        """The reply to an error."""
        return error_response(error, request_id)
