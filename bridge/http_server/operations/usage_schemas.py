"""The description of `GET /v1/usage`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from bridge.core.ledger import Dimension, Totals

_DAY: Final = {
    "anyOf": [
        {"type": "string", "format": "date"},
        {"type": "string", "pattern": "^[1-9][0-9]{0,3}d$"},
    ]
}
_TEXT: Final = {"type": "string", "minLength": 1}

PARAMETERS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "by",
        "description": "What usage is summed by.",
        "schema": {"type": "string", "enum": [*Dimension], "default": Dimension.DAY},
    },
    {
        "name": "since",
        "description": "The first UTC day (2026-11-01), or the last days with today (7d).",
        "schema": _DAY,
    },
    {"name": "until", "description": "The last UTC day, written in the same way.", "schema": _DAY},
    {
        "name": "key",
        "description": "Only this key. Keys without the scope admin see their own anyway.",
        "schema": _TEXT,
    },
    {
        "name": "request_id",
        "description": "One request, by its x-request-id or the client's own id; without the other "
        "parameters.",
        "schema": _TEXT,
    },
)


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


_COUNT: Final = {"type": "integer", "minimum": 0}
_USD: Final = {"type": "number", "minimum": 0}
_SUMS: Final[dict[str, Any]] = {
    field.name: _USD if field.name.endswith("_usd") else _COUNT for field in fields(Totals)
}
_TOKENS: Final = {name: _COUNT for name in _SUMS if name.endswith("_tokens")}
_NAME: Final = {"type": "string"}

_USAGE: Final = _object(
    {
        "object": {"const": "usage"},
        "by": {"enum": [*Dimension]},
        "data": {
            "type": "array",
            "items": _object({**dict.fromkeys(Dimension, _NAME), **_SUMS}, *Dimension),
        },
        "total": _object(_SUMS),
    }
)
_REQUEST: Final = _object(
    {
        "object": {"const": "usage.request"},
        "request_id": _NAME,
        "ended_at": {"type": "number", "description": "In Unix seconds."},
        "key": _NAME,
        "model": {"type": ["string", "null"]},
        "error": {"type": ["string", "null"], "description": "The reason that ended it."},
        **_TOKENS,
        "cost_usd": {
            "type": ["number", "null"],
            "description": "The list price in US dollars; null if not all of it is known.",
        },
        "billed": {"type": "boolean"},
        "payer": _NAME,
    }
)

REPLY: Final[dict[str, Any]] = {"oneOf": [_USAGE, _REQUEST]}
