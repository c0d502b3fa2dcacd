"""Replies to requests that match no route, or a route but not its parameters."""

from __future__ import annotations

import re
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from bridge.core.contract import BridgeError
from bridge.core.validation import invalid
from bridge.http_server.context import request_id_of
from bridge.http_server.dialect import dialect_of
from bridge.http_server.errors import HttpError, MethodNotSupportedError, UnknownUrlError
from bridge.http_server.wire import expectation

_SHOWN: Final = 200
"""Characters of a URL that are repeated to the caller."""


async def answer_http_exception(request: Request, exc: Exception) -> Response:
    """Answer the framework's own errors in the request's dialect."""
    assert isinstance(exc, HTTPException)
    method, path = request.method, request.scope["path"]
    headers = dict(exc.headers or {})
    error: BridgeError
    if exc.status_code == 404:
        known = frozenset(request.app.openapi()["paths"])
        error = dialect_of(request.scope).missing(path) or _unknown_url(method, path, known)
    elif exc.status_code == 405 and request.headers.get("upgrade", "").lower() == "websocket":
        # With this status, clients that try a WebSocket first fall back immediately.
        error = HttpError(
            426, "This server does not support WebSockets. Send the request with POST."
        )
        headers = {}
    elif exc.status_code == 405:
        headers = {"Allow": _methods_of(request, headers.get("Allow", ""))}
        error = MethodNotSupportedError(
            f"{path[:_SHOWN]} does not support {method}. Use {headers['Allow']}."
        )
    else:
        error = HttpError(exc.status_code, exc.detail)
    return _in_dialect(request, error, headers)


async def answer_validation_error(request: Request, exc: Exception) -> Response:
    """Answer the framework's error about a path or query parameter in the request's dialect."""
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    # The location starts with the kind of parameter, such as `query`.
    field = ".".join(map(str, first["loc"][1:]))
    error = invalid(field, expectation(first))
    return _in_dialect(request, error, {})


def _in_dialect(request: Request, error: BridgeError, headers: dict[str, str]) -> Response:
    scope = request.scope
    response = dialect_of(scope).error_response(error, request_id_of(scope), scope)
    response.headers.update(headers)
    return response


def _unknown_url(method: str, path: str, known: frozenset[str]) -> UnknownUrlError:
    """Report an unknown URL, with a suggestion if there is one."""
    message = f"Unknown request URL: {method} {path[:_SHOWN]}."
    plain = re.sub("/{2,}", "/", path).rstrip("/")
    near = (f"/v1{plain}", plain, plain.removeprefix("/v1"))
    meant = next((url for url in near if url in known), None)
    if meant is not None:
        message += f" Did you mean {meant}?"
    return UnknownUrlError(message)


def _methods_of(request: Request, named: str) -> str:
    """List the methods of a URL; the framework's `named` are only those of its first route."""
    here, paths = request.scope["path"], request.app.openapi()["paths"]
    if here in paths:
        # Where it is one of the values of a parameter too, it is not meant as such.
        methods = {method.upper() for method in paths[here]}
    else:
        methods = {named} if named else set()
        for path, operations in paths.items():
            if compile_path(path)[0].fullmatch(here):
                methods |= {method.upper() for method in operations}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))
