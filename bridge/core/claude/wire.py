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
_MANY: Final = 50_000


def is_long(line: Mapping[str, Any]) -> bool:
    """Whether a user or assistant turn is so large that encoding it takes long.

    Takes no more than a few milliseconds itself.
    """
    characters = values = 0
    left = [line.get("message")]
    while left:
        match left.pop():
            case str() as text:
                characters += len(text)
            case dict() as inner:
                left.extend(inner.values())
            case list() | tuple() as inner:
                left.extend(inner)
        values += 1
        if characters > _LONG or values > _MANY:
            return True
    return False


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
