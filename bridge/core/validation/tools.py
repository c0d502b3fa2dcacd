"""Whether Claude Code will take a tool as the caller defines it. Pure.

It leaves out a tool whose definition it cannot use, and goes on offering what it last knew by that
name, which may be another caller's. So nothing of the kind is ever told to it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema
from jsonschema.validators import validator_for

from bridge.core.contract import BOUNDS, InvalidRequestError, Tool

# https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview: names of properties.
_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_BRANCHES = ("allOf", "anyOf", "oneOf")


def check_tools(tools: Sequence[Tool]) -> None:
    """Raise InvalidRequestError for parameters that are no JSON Schema which the API takes."""
    for tool in tools:
        try:
            fault = _fault(json.dumps(tool.parameters))
        except (ValueError, RecursionError):
            fault = f"they have more than {BOUNDS.schema_levels} levels"
        if fault:
            raise InvalidRequestError(
                f"The parameters of the tool {tool.name[:64]!r}: {fault}.", field="tools"
            )


# The same tools come with every request of a conversation.
@lru_cache(maxsize=1024)
def _fault(text: str) -> str:
    schema = json.loads(text)
    if schema.get("type", "object") != "object":
        return 'their schema must be of an object: "type": "object"'
    if not isinstance(schema.get("$schema", ""), str):
        return "$schema is not a text"
    if not all(map(math.isfinite, _numbers(schema))):
        return "a number in them is not finite"
    try:
        kind: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
        # Patterns are the API's matter: its dialect is another than Python's.
        kind.check_schema(schema, format_checker=jsonschema.FormatChecker(()))
    except jsonschema.SchemaError as error:
        path = "/".join(map(str, error.absolute_path))
        return f"they are not valid JSON Schema at {path or 'the root'}: {error.message[:200]}"
    for branch in (schema, *_branches(schema)):
        for name in branch.get("properties", {}):
            if not _PROPERTY.fullmatch(name):
                return (
                    f"the name {name[:64]!r} is not 1 to 64 letters, digits, "
                    '"_", "." and "-", as the API wants it'
                )
    return ""


def _branches(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in _BRANCHES:
        for branch in schema.get(key, ()):
            if isinstance(branch, Mapping):
                yield branch


def _numbers(schema: Any) -> list[float]:
    """All numbers in it; raises RecursionError where it is too deep."""
    numbers: list[float] = []
    level: list[Any] = [schema]
    for _ in range(BOUNDS.schema_levels):
        numbers += [value for value in level if isinstance(value, float)]
        level = [
            inner
            for value in level
            if isinstance(value, Mapping | list)
            for inner in (value.values() if isinstance(value, Mapping) else value)
        ]
        if not level:
            return numbers
    raise RecursionError
