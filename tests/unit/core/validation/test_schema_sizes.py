"""The size of a schema, and of its references."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.validation.schema_sizes import expanded, measure


def doubled(levels: int) -> dict[str, Any]:
    """Definitions that each refer twice to the next."""
    names = [f"#/$defs/{level + 1}" for level in range(levels)]
    definitions = {
        str(level): {"allOf": [{"$ref": name}, {"$ref": name}]} for level, name in enumerate(names)
    }
    return {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/0"}},
        "$defs": {**definitions, str(levels): {}},
    }


def test_what_is_in_a_schema() -> None:
    schema = {
        "properties": {"a": True, "long name": {"pattern": "12345"}, "c": {"$ref": "#"}},
        "patternProperties": {"123456": {}},
        "enum": ["x" * 20, 1],
    }
    size = measure(schema, levels=9, values=99)
    assert (size.levels, size.values, size.subschemas, size.references) == (3, 12, 7, 1)
    assert (size.longest_pattern, size.longest_text) == (6, 20)


def test_measuring_ends_where_there_is_too_much() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    assert measure(deep, levels=5, values=99).levels == 6
    assert measure({"a": [1] * 1_000_000}, levels=5, values=5).values > 5


@pytest.mark.parametrize(("levels", "count"), [(1, 12), (2, 21), (3, 38)])
def test_references_count_as_what_they_refer_to(levels: int, count: int) -> None:
    # Of each definition alone, and of everything that the property expands to.
    assert expanded(doubled(levels), 1_000) > count


def test_references_that_come_to_a_great_many() -> None:
    assert expanded(doubled(10), 10**9) > 2**10
    assert expanded(doubled(60), 10_000) > 10_000
    # However long the chain is, it is not walked step by step.
    assert expanded(doubled(2_000), 10_000) > 10_000


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"$ref": "#/nowhere/0/1"},
        {"prefixItems": [{}], "$ref": "#/prefixItems/7"},
        {"$ref": "#/$ref/x"},
        {"$ref": "elsewhere"},
    ],
)
def test_references_in_circles_and_to_nowhere_end(schema: dict[str, Any]) -> None:
    assert expanded(schema, 1_000) < 20


@pytest.mark.parametrize(
    ("reference", "definition"),
    [
        ("#here", {"$anchor": "here"}),
        ("#here", {"$dynamicAnchor": "here"}),
        ("#here", {"$id": "#here"}),
        ("#/$defs/a~1b%20c", {}),
    ],
)
def test_all_kinds_of_references_are_followed(reference: str, definition: dict[str, Any]) -> None:
    large = {**definition, "anyOf": [{}] * 100}
    schema = {"$defs": {"a/b c": large}, "allOf": [{"$ref": reference}, {"$dynamicRef": reference}]}
    assert expanded(schema, 10_000) > 300
