"""Whether Claude Code will accept a tool as the caller defines it. Pure.

It drops a tool whose definition it cannot use, and keeps offering the last tool that it knew by
that name, which may be another caller's. So it never gets such a definition. The check can take
long: it runs in a separate process, see `schema_worker`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from jsonschema.validators import validator_for

from bridge.core.validation.references import fault_of_references

# https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview: names of properties.
_PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_BRANCHES = ("allOf", "anyOf", "oneOf")


def fault_of_parameters(schema: Mapping[str, Any]) -> str:
    """Return why parameters are not a JSON Schema that the API accepts; "" if they are."""
    if schema.get("type", "object") != "object":
        return 'their schema must have "type": "object"'
    if not isinstance(schema.get("$schema", ""), str):
        return "$schema is not a string"
    if not all(map(math.isfinite, _numbers(schema))):
        return "they contain a number that is not finite"
    try:
        kind: Any = validator_for(schema, default=jsonschema.Draft202012Validator)
        # The API checks patterns: its dialect differs from Python's.
        kind.check_schema(schema, format_checker=jsonschema.FormatChecker(()))
    except jsonschema.SchemaError as error:
        path = "/".join(map(str, error.absolute_path))
        return f"they are not valid JSON Schema at {path or 'the root'}: {error.message[:200]}"
    except Exception:  # noqa: BLE001 - it may be anything
        return "they cannot be parsed as JSON Schema"
    for branch in (schema, *_branches(schema)):
        for name in branch.get("properties", {}):
            if not _PROPERTY.fullmatch(name):
                return (
                    f"the property name {name[:64]!r} must be 1 to 64 letters, digits, "
                    '"_", "." and "-"'
                )
    return fault_of_references(schema)


def _branches(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in _BRANCHES:
        for branch in schema.get(key, ()):
            if isinstance(branch, Mapping):
                yield branch


def _numbers(schema: Any) -> Iterator[float]:
    level: list[Any] = [schema]
    while level:
        yield from (value for value in level if isinstance(value, float))
        level = [
            inner
            for value in level
            if isinstance(value, Mapping | list)
            for inner in (value.values() if isinstance(value, Mapping) else value)
        ]
