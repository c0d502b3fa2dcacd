"""What is said to a request that meets no route, or not as the route wants it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from bridge.core.contract import InvalidRequestError
from bridge.http_server.context import request_id_of
from bridge.http_server.errors import error_response, json_response
from bridge.http_server.openai.shared.problems import dotted
from bridge.http_server.openai.shared.replies import JsonDict, error_object

_EMBEDDINGS: Final = frozenset({"/v1/embeddings", "/embeddings"})
_SHOWN: Final = 200
"""How much of a URL is repeated to the caller."""

_CODES: Final[Mapping[int, str]] = {404: "unknown_url", 405: "method_not_supported"}


def unknown_url(method: str, path: str, known: frozenset[str]) -> JsonDict:
    """Say that nothing is there, and where it may be instead."""
    if path in _EMBEDDINGS:
        message = (
            "This server has no embedding model. Claude has none: point your client's "
            "embeddings at another server."
        )
        return error_object(message, "invalid_request_error", None, "model_not_found")
    message = f"Unknown request URL: {method} {path[:_SHOWN]}."
    near = (f"/v1{path}", path.rstrip("/"), path.removeprefix("/v1"))
    meant = next((url for url in near if url in known), None)
    if meant is not None:
        message += f" Did you mean {meant}?"
    return error_object(message, "invalid_request_error", None, _CODES[404])


def wrong_method(method: str, path: str, allowed: str) -> JsonDict:
    """Say which methods a URL takes."""
    message = f"{path[:_SHOWN]} does not take {method}. Use {allowed}."
    return error_object(message, "invalid_request_error", None, _CODES[405])


async def answer_http_exception(request: Request, exc: Exception) -> Response:
    """Put the framework's own errors into OpenAI's envelope."""
    assert isinstance(exc, HTTPException)
    method, path = request.method, request.scope["path"]
    if exc.status_code == 404:
        known = frozenset(request.app.openapi()["paths"])
        content = unknown_url(method, path, known)
    elif exc.status_code == 405:
        allowed = _methods_of(request, (exc.headers or {}).get("Allow", ""))
        content = wrong_method(method, path, allowed)
        return json_response(content, exc.status_code, {"Allow": allowed})
    else:
        content = error_object(exc.detail, "invalid_request_error", None, None)
    return json_response(content, exc.status_code, exc.headers)


def _methods_of(request: Request, named: str) -> str:
    """List the methods of a URL; the framework has `named` those of its first route only."""
    methods = {named} if named else set()
    for path, operations in request.app.openapi()["paths"].items():
        if compile_path(path)[0].fullmatch(request.scope["path"]):
            methods |= {method.upper() for method in operations}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


async def answer_validation_error(request: Request, exc: Exception) -> Response:
    """Put the framework's complaint about a path or a query into OpenAI's envelope."""
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    # The first step of the location is the kind of parameter, such as `query`.
    field = dotted(first["loc"][1:])
    error = InvalidRequestError(f"Invalid value for '{field}': {first['msg']}.", field=field)
    return error_response(error, request_id_of(request.scope))
