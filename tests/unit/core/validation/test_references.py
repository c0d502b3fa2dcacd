"""Dangling and circular references."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.validation.references import fault_of_references
from bridge.core.validation.schemas import fault_of_schema
from bridge.core.validation.tools import fault_of_parameters

Schema = dict[str, Any]


def of(value: Schema, **defs: Schema) -> Schema:
    return {"type": "object", "properties": {"a": value}, "$defs": defs}


def ref(to: str) -> Schema:
    return {"$ref": to}


NOWHERE = [
    of(ref("#/$defs/B")),
    of(ref("#B")),
    of({"items": ref("#/properties/b")}),
    of({"prefixItems": [{}, ref("#/$defs/B/items/3")]}, B={"items": {}}),
    of({}, B=ref("#/type")),
    {"type": "object", **ref("#/x")},
    of({"dependentSchemas": {"x": ref("#/x")}}),
    of(ref("#/x/y"), B={}) | {"x": {"y": ref("#/x/z")}},
]
CIRCLES = [
    {"type": "object", **ref("#")},
    of(ref("#/properties/a")),
    of(ref("#/$defs/B"), B=ref("#/$defs/C"), C=ref("#/$defs/B")),
    of(ref("#/$defs/B"), B={"anyOf": [{"type": "null"}, {"allOf": [ref("#/$defs/B")]}]}),
    of({}, B={"if": {"not": ref("#/$defs/B")}}),
]
FINE = [
    of(ref("#")),
    of(ref("#/$defs/B"), B={"type": "object", "properties": {"next": ref("#/$defs/B")}}),
    of(ref("#/$defs/B"), B={"anyOf": [{"type": "null"}, {"items": ref("#/$defs/B")}]}),
    of({"anyOf": [ref("#/$defs/B"), ref("#/$defs/C")]}, B=ref("#/$defs/C"), C={}),
    of(ref("#here"), B={"$anchor": "here"}),
    of({"enum": [ref("#/x")], "default": ref("#/x"), "x-more": ref("#/x")}),
    of({}) | {"properties": {"enum": {}, "default": {"type": "string"}}},
    of(
        ref("#/$defs/B"), B={"$id": "https://example.com/b", "$defs": {"C": {}}, **ref("#/$defs/C")}
    ),
    of(ref("#/components/B")) | {"components": {"B": {"type": "string"}}},
    of(ref("#/$defs/a~1b%25"), **{"a/b%": {}}),
]


@pytest.mark.parametrize("schema", NOWHERE)
def test_one_that_leads_nowhere_is_named(schema: Schema) -> None:
    assert "does not exist" in fault_of_references(schema)
    assert "does not exist" in fault_of_parameters(schema)
    assert "at $ref: '#" in fault_of_schema(schema)


@pytest.mark.parametrize("schema", CIRCLES)
def test_a_circle_is_named(schema: Schema) -> None:
    assert "is circular" in fault_of_references(schema)
    assert "is circular" in fault_of_parameters(schema)
    assert "is circular" in fault_of_schema(schema)


@pytest.mark.parametrize("schema", FINE)
def test_others_are_fine(schema: Schema) -> None:
    assert fault_of_references(schema) == ""
    assert fault_of_parameters(schema) == ""
