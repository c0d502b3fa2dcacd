"""JSON schemas of answers: what the API takes of one, and the check against the whole. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import referencing
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from bridge.core.contract import InvalidRequestError
from bridge.core.validation.answers import UnfitAnswerError

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
    """A validator for the caller's schema; raises InvalidRequestError where it is none.

    It fetches nothing, and leaves patterns to the API: a pattern can take any time to try.
    """
    _check_form(schema)
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        path = "/".join(map(str, error.absolute_path))
        raise _no_schema(f"at {path or 'its root'}: {error.message[:200]}") from error
    except Exception as error:
        raise _no_schema("and cannot be read") from error
    return kind(_without_patterns(schema), registry=referencing.Registry())


def _check_form(schema: Mapping[str, Any]) -> None:
    """Refuse what cannot be served, before anything is made of it."""
    if not isinstance(schema.get("$schema", ""), str):
        raise _no_schema("at $schema: it is not a text")
    if schema.get("type", "object") != "object" or not (
        schema.keys() & {"type", "properties", "$ref", "anyOf", "allOf"}
    ):
        raise InvalidRequestError(
            'The root of the schema must be an object: "type": "object".', field="output_format"
        )
    level: list[Any] = [schema]
    while level:
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, Mapping) else value)
            if isinstance(inner, Mapping | list)
        ]
        for value in level:
            reference = value.get("$ref") if isinstance(value, Mapping) else None
            if isinstance(reference, str) and not reference.startswith("#"):
                raise _no_schema(f"at $ref: only references within it are taken, not {reference!r}")


def _no_schema(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"The schema is not valid JSON Schema {why}", field="output_format")


def _without_patterns(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_patterns(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    left_out = {"pattern", "patternProperties"}
    if "patternProperties" in schema:
        # Without the patterns it is not known which names are additional.
        left_out |= {"additionalProperties", "unevaluatedProperties"}
    return {
        key: {name: _without_patterns(part) for name, part in value.items()}
        if key in _BY_NAME and isinstance(value, Mapping)
        else _without_patterns(value)
        for key, value in schema.items()
        if key not in left_out
    }


def check_answer(text: str, validator: Validator | None) -> None:
    """Raise UnfitAnswerError unless the text is JSON that matches the whole schema."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UnfitAnswerError("is not valid JSON") from error
    if validator is None:
        return
    try:
        fault = next(iter(validator.iter_errors(value)), None)
    except Exception as error:
        # A reference that leads nowhere, or in a circle.
        raise UnfitAnswerError("cannot be checked against the schema") from error
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
