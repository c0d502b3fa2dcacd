"""Types, names and encoding of the lines exchanged with the CLI."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

Wire: TypeAlias = dict[str, Any]


TOOL_PREFIX = "mcp__client__"
"""The CLI's prefix to the names of the caller's tools, if its own tools are on. Otherwise the
caller's tools have their own names, which prompts of agents mention."""

_LONG: Final = 1_000_000


def is_long(line: Mapping[str, Any]) -> bool:
    """Whether a user or assistant turn contains so long a text that encoding it takes long."""
    message = line.get("message")
    blocks = message.get("content") if isinstance(message, dict) else None
    if not isinstance(blocks, list | tuple):
        return False
    return any(
        len(text) > _LONG
        for block in blocks
        for text in (block.get("text"), (block.get("source") or {}).get("data"))
        if isinstance(text, str)
    )


def encoded(line: Mapping[str, Any]) -> bytes:
    """Return a line as JSON in ASCII, with the line feed."""
    return json.dumps(line).encode() + b"\n"


def long_encoded(line: Mapping[str, Any]) -> bytes:
    """Return the same as `encoded`, never holding the interpreter for long."""
    return b"".join(piece.encode() for piece in _pieces(line)) + b"\n"


def _pieces(value: Any) -> Iterator[str]:
    match value:
        case str() if len(value) > _LONG:
            yield '"'
            for start in range(0, len(value), _LONG):
                yield json.dumps(value[start : start + _LONG])[1:-1]
            yield '"'
        case dict():
            for i, (key, inner) in enumerate(value.items()):
                yield f"{', ' if i else '{'}{json.dumps(key)}: "
                yield from _pieces(inner)
            yield "}" if value else "{}"
        case list() | tuple():
            for i, inner in enumerate(value):
                yield ", " if i else "["
                yield from _pieces(inner)
            yield "]" if value else "[]"
        case _:
            yield json.dumps(value)
