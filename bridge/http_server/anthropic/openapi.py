"""Anthropic's part of the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from bridge.http_server.openapi import describe as describe_any
from bridge.http_server.wire import json_schemas_of

_ERROR: Final = "AnthropicError"
_ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "details": {"type": "object"},
            },
        },
        "request_id": {"type": "string"},
    },
}


def describe(body: type[BaseModel] | None = None, *, stream: bool = False) -> dict[str, Any]:
    """Return the arguments of a route that describe its body and its replies."""
    return describe_any(None if body is None else body.__name__, stream=stream, error=_ERROR)


@cache
def schemas_of(*requests: type[BaseModel]) -> Mapping[str, Any]:
    """The schemas of bodies, and of the envelope of errors."""
    return {**json_schemas_of(*requests), _ERROR: _ERROR_SCHEMA}
