"""Numbers that the CLI does not preserve: it is a JavaScript program and stores them as doubles.
Pure.

For example, an id of 19 digits would reach the model, or a tool, as a neighbouring number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from bridge.core.contract import Message, ToolCallPart

# Every number of up to 15 digits survives.
_MANY_DIGITS = re.compile(r"[0-9.]{16}")


_EXACT = 2**53


def survives(digits: str) -> bool:
    """Whether converting these digits to a double and back yields the same number."""
    return Decimal(repr(float(digits))) == Decimal(digits)


def _is_inexact(item: object) -> bool:
    if not isinstance(item, int) or -_EXACT <= item <= _EXACT:
        return False
    # Longer ones are too large for a double, and for Python to write out.
    return item.bit_length() > 1024 or not survives(str(item))


def parsed_exactly(text: str) -> tuple[Any, bool]:
    """Parse JSON; numbers that would not survive become strings of their digits.

    Also returns whether there are any. Raises ValueError if the text is not JSON.
    """
    if not _MANY_DIGITS.search(text):
        return json.loads(text), False
    changed = False

    def kept(digits: str) -> str:
        nonlocal changed
        changed = True
        return digits

    value = json.loads(
        text,
        parse_int=lambda digits: int(digits) if survives(digits) else kept(digits),
        parse_float=lambda digits: float(digits) if survives(digits) else kept(digits),
    )
    return value, changed


def changes_arguments(messages: Sequence[Message]) -> bool:
    """Whether a call in the history has a number that is sent as a string of its digits."""
    return any(
        parsed_exactly(part.arguments)[1]
        for message in messages
        for part in message.parts
        if isinstance(part, ToolCallPart)
    )


def has_inexact(value: Any) -> bool:
    """Whether JSON data contain an integer that would not survive."""
    level: list[Any] = [value]
    while level:
        if any(map(_is_inexact, level)):
            return True
        level = [
            inner
            for item in level
            if isinstance(item, Mapping | list)
            for inner in (item.values() if isinstance(item, Mapping) else item)
        ]
    return False


_BY_NAME = frozenset(
    {"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"}
)


_OF_SCHEMAS = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "oneOf",
        "prefixItems",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
"""Keywords whose value is one or more schemas."""


def exact_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a JSON Schema without the keywords whose numbers would not survive.

    Returns the schema itself if it has none. Without an `enum` the model may answer anything, but
    it is not forced to give a wrong answer.
    """
    return _without_inexact(schema) if has_inexact(schema) else schema


def _without_inexact(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_inexact(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if not has_inexact(value):
            result[key] = value
        elif key in _BY_NAME and isinstance(value, Mapping):
            result[key] = {name: _without_inexact(part) for name, part in value.items()}
        elif key in _OF_SCHEMAS:
            result[key] = _without_inexact(value)
    return result
