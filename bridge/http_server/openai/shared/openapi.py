"""OpenAI's part of the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from bridge.http_server.openapi import describe as describe_any
from bridge.http_server.wire import json_schemas_of

_ERROR: Final = "Error"
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


def describe(body: type[BaseModel] | None = None, *, stream: bool = False) -> dict[str, Any]:
    """Return the arguments of a route that describe its body and its replies."""
    return describe_any(None if body is None else body.__name__, stream=stream, error=_ERROR)


@cache
def schemas_of(*requests: type[BaseModel]) -> Mapping[str, Any]:
    """The schemas of bodies, and of the envelope of errors."""
    return {**json_schemas_of(*requests), _ERROR: _ERROR_SCHEMA}
