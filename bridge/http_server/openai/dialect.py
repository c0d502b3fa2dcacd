"""OpenAI's API as a dialect of the HTTP server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from bridge.core.access import bearer
from bridge.core.answers import ResponseStore
from bridge.core.contract import Allowances, BridgeError
from bridge.http_server.context import ServerContext
from bridge.http_server.dialect import BrowserHeaders
from bridge.http_server.errors import UnknownUrlError
from bridge.http_server.openai.chat import ChatCompletionRequest, add_chat_routes
from bridge.http_server.openai.completions import TextCompletionRequest, add_completion_routes
from bridge.http_server.openai.models import add_model_routes
from bridge.http_server.openai.responses import (
    ConversationItemsRequest,
    ConversationRequest,
    ConversationUpdate,
    ResponsesRequest,
    add_response_routes,
)
from bridge.http_server.openai.shared.errors import error_response
from bridge.http_server.openai.shared.limits import LIMIT_HEADERS, limit_headers
from bridge.http_server.openai.shared.openapi import schemas_of

_VERSION: Final = "2020-10-01"
"""The one that OpenAI itself names in `openai-version`."""
_EMBEDDINGS: Final = frozenset({"/v1/embeddings", "/embeddings"})


class OpenAI:
    """OpenAI's API: chat completions, responses, the legacy completions, and models."""

    browser_headers: Final = BrowserHeaders(
        sent=frozenset({"idempotency-key", "openai-beta", "openai-organization", "openai-project"}),
        sent_prefixes=("x-stainless-",),
        read=frozenset({"openai-processing-ms", "openai-version", "x-request-id", *LIMIT_HEADERS}),
    )

    open_urls: Final = frozenset[str]()

    def __init__(self, store: ResponseStore | None = None) -> None:
        """Without a `store`, no responses are stored."""
        self._store = store

    def add_routes(self, router: APIRouter, server: ServerContext) -> None:
        add_chat_routes(router, server)
        add_response_routes(router, server, self._store)
        add_completion_routes(router, server)
        add_model_routes(router, server)

    def schemas(self) -> Mapping[str, Any]:
        """The bodies of the endpoints, and the envelope of errors."""
        return schemas_of(
            ChatCompletionRequest,
            ResponsesRequest,
            TextCompletionRequest,
            ConversationRequest,
            ConversationUpdate,
            ConversationItemsRequest,
        )

    def speaks(self, scope: Scope) -> bool:
        """Whether a header names an organisation or a project, as OpenAI's clients may."""
        return any(name.startswith(b"openai-") for name, _ in scope["headers"])

    def secret(self, headers: Headers) -> str | None:
        """The secret of the one `authorization` header."""
        given = headers.getlist("authorization")
        return bearer(given[0]) if len(given) == 1 else None

    def reply_headers(self, request_id: str, seconds: float) -> Mapping[str, str]:
        """The headers that OpenAI's clients log."""
        return {
            "x-request-id": request_id,
            "openai-version": _VERSION,
            "openai-processing-ms": str(int(seconds * 1000)),
        }

    def limit_headers(self, allowances: Allowances, now: float) -> Mapping[str, str]:
        """The headers of a key's limits."""
        return limit_headers(allowances, now)

    def missing(self, path: str) -> BridgeError | None:
        """Embeddings: the missing endpoint that clients request most."""
        if path not in _EMBEDDINGS:
            return None
        return UnknownUrlError(
            "Embeddings are not supported: Claude has no embedding model. Configure another server "
            "for embeddings in your client.",
            reason="MODEL_NOT_FOUND",
        )

    def error_response(
        self, error: BridgeError, request_id: str, scope: Scope | None = None
    ) -> Response:
        return error_response(error, request_id)
