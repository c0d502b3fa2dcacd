"""JSON schemas of answers: what the API takes of one, and the check against the whole. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from bridge.core.errors import InvalidRequestError
from bridge.core.shaping import UnfitAnswerError

# What structured outputs do not take:
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
# Keywords whose value holds schemas by name; names of properties are not keywords.
_BY_NAME = frozenset({"properties", "$defs", "definitions", "patternProperties"})


def validator_of(schema: Mapping[str, Any]) -> Validator:
    """A validator for the caller's schema; raises InvalidRequestError where it is none."""
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        path = "/".join(map(str, error.absolute_path))
        raise InvalidRequestError(
            f"The schema is not valid JSON Schema at {path or 'its root'}: {error.message[:200]}",
            field="output_format",
        ) from error
    return kind(dict(schema))


def check_answer(text: str, validator: Validator | None) -> None:
    """Raise UnfitAnswerError unless the text is JSON that matches the whole schema."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnfitAnswerError("is not valid JSON") from error
    if validator is None:
        return
    fault = next(iter(validator.iter_errors(value)), None)
    if fault is not None:
        path = "/".join(map(str, fault.absolute_path))
        raise UnfitAnswerError(f"does not match the schema at {path or 'its root'}")


def for_api(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without the constraints that the API refuses; open objects are closed.

    What is left out is checked in the answer all the same. An object that says itself what else
    it may hold stays as it is.
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
