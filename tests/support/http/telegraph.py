"""A second dialect, as small as one can be: it shares a URL with OpenAI's API and has one alone.

`POST /v1/wires` takes `{"wire": "...", "stream": true}`, keys come in `x-wire-key`, errors are
`{"fault": ..., "about": ...}`, and `wire-version` says that a request speaks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from bridge.core.contract import (
    Allowances,
    AuthenticationError,
    BridgeError,
    CompletionRequest,
    Finished,
    InternalError,
    InvalidRequestError,
    Message,
    PermissionDeniedError,
    QueueFullError,
    RequestTimeoutError,
    Role,
    TextPart,
    TooLargeError,
)
from bridge.http_server.context import CallOptions, ServerContext, caller_of
from bridge.http_server.dialect import BrowserHeaders, Call, JsonDict, StreamedCall, WholeCall
from bridge.http_server.endpoint import respond
from bridge.http_server.errors import (
    HttpError,
    UnknownUrlError,
    error_headers,
    json_response,
)
from bridge.http_server.event_encoder import EventEncoder
from bridge.http_server.openapi import describe
from bridge.http_server.sse import data_frame

_STATUSES: Final[dict[type[BridgeError], int]] = {
    InvalidRequestError: 422,
    AuthenticationError: 401,
    PermissionDeniedError: 403,
    TooLargeError: 413,
    RequestTimeoutError: 408,
    QueueFullError: 529,
    InternalError: 500,
}


class Wire(EventEncoder):
    """Writes capitals, streamed and whole."""

    def __init__(self) -> None:
        super().__init__()
        self._text: list[str] = []

    def on_text(self, text: str) -> None:
        self._text.append(text.upper())
        self.emit(data_frame({"wire": text.upper()}))

    def on_finish(self, event: Finished) -> None:
        self.emit(data_frame("STOP"))

    def on_error(self, error: BridgeError, request_id: str) -> None:
        self.emit(data_frame({"fault": error.reason}))

    def reply(self) -> JsonDict:
        self.check_finished()
        return {"wire": "".join(self._text)}


async def decode(body: object, options: CallOptions) -> Call:
    if not isinstance(body, dict) or not isinstance(body.get("wire"), str):
        raise InvalidRequestError("There is no 'wire'.", field="wire")
    request = CompletionRequest((Message(Role.USER, (TextPart(body["wire"]),)),))
    return StreamedCall(request, Wire()) if body.get("stream") else WholeCall(request, Wire())


class Telegraph:
    """The dialect."""

    browser_headers: Final = BrowserHeaders(
        sent=frozenset({"x-wire-key", "wire-version"}), read=frozenset({"wire-id"})
    )
    open_urls: Final = frozenset[str]()

    def add_routes(self, router: APIRouter, server: ServerContext) -> None:
        @router.post("/v1/wires", **describe("Wire", stream=True))
        async def send(request: Request) -> Response:
            return await respond(request, server, decode)

        @router.get("/v1/models", **describe())
        async def models(request: Request) -> Response:
            models = await server.service.models(caller_of(request.scope))
            return json_response({"operators": [model.id for model in models]})

    def schemas(self) -> Mapping[str, Any]:
        return {"Wire": {"type": "object"}}

    def speaks(self, scope: Scope) -> bool:
        return "wire-version" in Headers(scope=scope)

    def secret(self, headers: Headers) -> str | None:
        return headers.get("x-wire-key")

    def reply_headers(self, request_id: str, seconds: float) -> Mapping[str, str]:
        return {"wire-id": request_id}

    def limit_headers(self, allowances: Allowances, now: float) -> Mapping[str, str]:
        return {}

    def missing(self, path: str) -> BridgeError | None:
        return UnknownUrlError("Post has no telegraph.") if path == "/v1/post" else None

    def error_response(
        self, error: BridgeError, request_id: str, scope: Scope | None = None
    ) -> Response:
        status = (
            error.status
            if isinstance(error, HttpError)
            else next((_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES), 500)
        )
        content = {"fault": error.reason, "about": getattr(error, "field", None)}
        return json_response(content, status, error_headers(error, status))
