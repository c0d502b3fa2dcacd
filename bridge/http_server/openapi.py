"""The description of the HTTP interface: bodies are read by hand, so they are described by hand."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bridge.http_server.openai.chat.wire import ChatCompletionRequest
from bridge.http_server.openai.completions.wire import TextCompletionRequest
from bridge.http_server.openai.responses.wire import ResponsesRequest

_REF: Final = "#/components/schemas/{model}"
_REQUESTS: Final[tuple[type[BaseModel], ...]] = (
    ChatCompletionRequest,
    ResponsesRequest,
    TextCompletionRequest,
)

_ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def describe(
    body: type[BaseModel] | None = None, *, stream: bool = False, text: bool = False
) -> dict[str, Any]:
    """Return the arguments of a route that describe its body and its replies."""
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if text:
        content = {"text/plain": {"schema": {"type": "string"}}}
    if stream:
        # Without a schema: what reads one takes it for that of each event.
        content["text/event-stream"] = {}
    error = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    described: dict[str, Any] = {
        "response_model": None,
        "responses": {
            200: {"description": "The answer.", "content": content},
            "default": {"description": "An error.", "content": error},
        },
    }
    if body is not None:
        schema = {"$ref": _REF.format(model=body.__name__)}
        described["openapi_extra"] = {
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
        }
    return described


def add_schemas(app: FastAPI) -> None:
    """Add the schemas that the routes refer to."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in _REQUESTS], ref_template=_REF
    )
    schemas = app.openapi().setdefault("components", {}).setdefault("schemas", {})
    schemas.update(definitions["$defs"], Error=_ERROR_SCHEMA)
