"""The OpenAPI description: bodies are parsed by hand, so they are described by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI

from bridge.http_server.dialect import Dialect

REF: Final = "#/components/schemas/{model}"


def describe(
    body: str | None = None,
    *,
    stream: bool = False,
    text: bool = False,
    error: str | None = None,
    reply: Mapping[str, Any] | None = None,
    parameters: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the arguments of a route that describe its body, its parameters and its replies.

    `body` and `error` are names in a dialect's `schemas`, `reply` is the schema of the answer.
    """
    content: dict[str, Any] = {"application/json": {"schema": reply or {"type": "object"}}}
    if text:
        content = {"text/plain": {"schema": {"type": "string"}}}
    if stream:
        # Without a schema: generators would apply it to each event.
        content["text/event-stream"] = {}
    failed = {"type": "object"} if error is None else {"$ref": REF.format(model=error)}
    described: dict[str, Any] = {
        "response_model": None,
        "responses": {
            200: {"description": "The answer.", "content": content},
            "default": {
                "description": "An error.",
                "content": {"application/json": {"schema": failed}},
            },
        },
    }
    extra: dict[str, Any] = {}
    if body is not None:
        schema = {"$ref": REF.format(model=body)}
        asked = {"required": True, "content": {"application/json": {"schema": schema}}}
        extra["requestBody"] = asked
    if parameters:
        extra["parameters"] = [{"in": "query", **parameter} for parameter in parameters]
    return {**described, "openapi_extra": extra} if extra else described


def add_schemas(app: FastAPI, dialects: Iterable[Dialect]) -> None:
    """Add the schemas that the routes refer to, when the app is first described.

    Not earlier: the description takes longer than everything else in building an app.
    """
    describe_routes = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = describe_routes().setdefault("components", {}).setdefault("schemas", {})
            for dialect in dialects:
                schemas.update(dialect.schemas())
        return describe_routes()

    app.openapi = described  # type: ignore[method-assign]
