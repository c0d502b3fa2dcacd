from __future__ import annotations

from typing import Any

import pytest

from bridge.core.validation.tools import fault_of_parameters


def with_properties(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"type": "object"},
        with_properties(a={"type": ["string", "null"]}, b=True),
        with_properties(**{"a.b-c_d": {}, "x" * 64: {}}),
        with_properties(a={"type": "string", "pattern": r"\p{L}(?<x>"}),
        with_properties(a=with_properties(**{"any name": {}})),
        {"type": "object", "anyOf": [with_properties(a={})], "$defs": {"b c": {}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{}]},
        deep(30),
    ],
)
def test_a_schema_that_the_api_takes_is_taken(parameters: dict[str, Any]) -> None:
    assert fault_of_parameters(parameters) == ""


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"type": "string"}, 'must have "type"'),
        ({"type": ["object"]}, 'must have "type"'),
        ({"type": None}, 'must have "type"'),
        ({"$schema": []}, "$schema is not a string"),
        ({"properties": []}, "not valid JSON Schema at properties"),
        ({"required": "x"}, "not valid JSON Schema at required"),
        ({"additionalProperties": "x"}, "not valid JSON Schema at additionalProperties"),
        ({"oneOf": {}}, "not valid JSON Schema at oneOf"),
        (with_properties(a={"minimum": float("inf")}), "not finite"),
        (with_properties(a={"enum": [float("nan")]}), "not finite"),
        (with_properties(**{"a b": {}}), "the property name 'a b'"),
        (with_properties(**{"": {}}), "the property name ''"),
        (with_properties(**{"$a": {}}), "the property name '$a'"),
        (with_properties(**{"x" * 65: {}}), "1 to 64 letters"),
        ({"anyOf": [with_properties(**{"a b": {}})]}, "the property name 'a b'"),
    ],
)
def test_what_claude_code_would_leave_out_is_refused(parameters: dict[str, Any], said: str) -> None:
    assert said in fault_of_parameters(parameters)
