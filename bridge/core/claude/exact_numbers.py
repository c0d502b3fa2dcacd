"""Numbers that do not survive the CLI: it is a JavaScript program, and has them as doubles. Pure.

An id of 19 digits would reach the model, or a tool, as the number beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from bridge.core.contract import Message, ToolCallPart

# Up to 15 digits every number survives.
_MANY_DIGITS = re.compile(r"[0-9.]{16}")


_EXACT = 2**53


def survives(digits: str) -> bool:
    """Whether a double, written out again, is still the number that is written here."""
    return Decimal(repr(float(digits))) == Decimal(digits)


def _is_inexact(item: object) -> bool:
    if not isinstance(item, int) or -_EXACT <= item <= _EXACT:
        return False
    # Beyond that it is too large for a double, and for Python to write out.
    return item.bit_length() > 1024 or not survives(str(item))


def parsed_exactly(text: str) -> tuple[Any, bool]:
    """Parse JSON, with the digits as a string for numbers that would not survive.

    Also says whether there are such. Raises ValueError where it is not JSON.
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
    """Whether a call in the history has a number that goes out as a string of its digits."""
    return any(
        parsed_exactly(part.arguments)[1]
        for message in messages
        for part in message.parts
        if isinstance(part, ToolCallPart)
    )


def has_inexact(value: Any) -> bool:
    """Whether JSON data hold an integer that would not survive."""
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
"""Keywords whose value is a schema, or several."""


def exact_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON Schema without the keywords whose numbers would not survive; itself without any.

    Without an `enum` the model may answer anything, but it is not made to answer what is wrong.
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
