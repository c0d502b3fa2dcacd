"""JSON schemas of answers: what the API supports, and the check against the whole schema. Pure.

Checks can take any time: they run in a separate process, see `schema_worker`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import referencing
from jsonschema.validators import validator_for

from bridge.core.validation.references import fault_of_references
from bridge.core.validation.schema_sizes import REFERENCES
from bridge.core.validation.tools import fault_of_parameters

# What structured outputs do not support:
# https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
_CONSTRAINTS = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "minProperties",
        "maxProperties",
        "propertyNames",
    }
)
# Keywords whose value contains schemas by name; names of properties are not keywords.
_BY_NAME = frozenset({"properties", "$defs", "definitions", "patternProperties"})


class UnfitAnswerError(Exception):
    """The answer does not match the request. The text is the fault."""


def fault_of(job: Mapping[str, Any]) -> str:
    """Return what is wrong with the subject of a job; "" if nothing."""
    match job:
        case {"kind": "tool", "schema": schema}:
            return fault_of_parameters(schema)
        case {"kind": "schema", "schema": schema}:
            return fault_of_schema(schema)
        case {"kind": "answer", "schema": schema, "answer": answer}:
            return fault_of_answer(schema, answer)
    raise ValueError(job)


def fault_of_schema(schema: Mapping[str, Any]) -> str:
    """Return what is wrong with a schema for answers, as a sentence; "" if nothing."""
    if not isinstance(schema.get("$schema", ""), str):
        return _no_schema("at $schema: it is not a string")
    if schema.get("type", "object") != "object" or not (
        schema.keys() & {"type", "properties", "$ref", "anyOf", "allOf"}
    ):
        return 'The root of the schema must be an object: "type": "object".'
    if (reference := _remote_reference(schema)) is not None:
        return _no_schema(f"at {reference}")
    try:
        # The API checks patterns: its dialect differs from Python's.
        _dialect(schema).check_schema(schema, format_checker=jsonschema.FormatChecker(()))
    except jsonschema.SchemaError as error:
        path = "/".join(map(str, error.absolute_path))
        return _no_schema(f"at {path or 'its root'}: {error.message[:200]}")
    except Exception:  # noqa: BLE001 - it may be anything
        return _no_schema("and cannot be parsed")
    fault = fault_of_references(schema)
    return _no_schema(f"at {fault}") if fault else ""


def _dialect(schema: Mapping[str, Any]) -> Any:
    return validator_for(schema, default=jsonschema.Draft202012Validator)


def _no_schema(why: str) -> str:
    return f"The schema is not valid JSON Schema {why}"


def _remote_reference(schema: Mapping[str, Any]) -> str | None:
    """Return a reference to something that would have to be fetched."""
    level: list[Any] = [schema]
    while level:
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, Mapping) else value)
            if isinstance(inner, Mapping | list)
        ]
        for value in (schema, *level):
            for name in REFERENCES:
                reference = value.get(name) if isinstance(value, Mapping) else None
                if isinstance(reference, str) and not reference.startswith("#"):
                    return (
                        f"{name}: only internal references are supported, not {reference[:200]!r}"
                    )
    return None


def _without_patterns(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_patterns(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    left_out = {"pattern", "patternProperties"}
    if "patternProperties" in schema:
        # Without the patterns it is unknown which names are additional.
        left_out |= {"additionalProperties", "unevaluatedProperties"}
    return {
        key: {name: _without_patterns(part) for name, part in value.items()}
        if key in _BY_NAME and isinstance(value, Mapping)
        else _without_patterns(value)
        for key, value in schema.items()
        if key not in left_out
    }


def fault_of_answer(schema: Mapping[str, Any], text: str) -> str:
    """Return what is wrong with an answer, after "The answer"; "" if it matches the whole schema.

    Nothing is fetched, and the API checks patterns: its dialect differs from Python's.
    """
    validator = _dialect(schema)(_without_patterns(schema), registry=referencing.Registry())
    try:
        fault = next(iter(validator.iter_errors(json.loads(text))), None)
    except Exception:  # noqa: BLE001 - it may be anything
        # A dangling or circular reference.
        return "cannot be checked against the schema"
    if fault is None:
        return ""
    path = "/".join(map(str, fault.absolute_path))
    return f"does not match the schema at {path or 'its root'}"


def for_api(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema without the constraints that the API refuses; open objects are closed.

    Removed constraints are still checked in the answer. An object that itself defines its
    additional properties is left unchanged.
    """
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _CONSTRAINTS or (key == "minItems" and value not in (0, 1)):
            continue
        if key in _BY_NAME and isinstance(value, Mapping):
            result[key] = {name: _inner(part) for name, part in value.items()}
        elif key == "oneOf":
            result["anyOf"] = _inner(value)
        else:
            result[key] = value if key in ("enum", "const", "default") else _inner(value)
    if result.get("type") == "object" or "properties" in result:
        result.setdefault("additionalProperties", False)
    return result


def _inner(value: Any) -> Any:
    if isinstance(value, Mapping):
        return for_api(value)
    if isinstance(value, list):
        return [_inner(item) for item in value]
    return value
