"""References of a JSON Schema that are dangling or circular. Pure.

The API refuses neither at once: the first fails when an answer is checked, the second never ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bridge.core.validation.schema_sizes import REFERENCES, anchors_of, target_of

_IN_PLACE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
"""Keywords whose schemas apply to the same value as the schema that contains them."""
_WITHIN = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "items",
        "prefixItems",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_BY_NAME = frozenset({"properties", "$defs", "definitions", "patternProperties"})

_Nodes = Iterator[Mapping[str, Any]]


def fault_of_references(schema: Mapping[str, Any]) -> str:
    """Return what is wrong with the references within a schema, as a clause; "" if nothing."""
    if any("$id" in node for node in _subschemas(schema) if node is not schema):
        # It contains other schemas, and references are relative to them.
        return ""
    anchors = anchors_of(schema)
    seen: set[int] = set()
    level: list[Mapping[str, Any]] = [schema]
    nodes = []
    while level:
        found: list[Mapping[str, Any]] = []
        for node in level:
            if id(node) in seen:
                continue
            seen.add(id(node))
            nodes.append(node)
            found += [*_inner(node, _WITHIN | _IN_PLACE), *_named(node, _BY_NAME)]
            found += _named(node, frozenset({"dependentSchemas"}))
            for name, reference in _references(node):
                target = target_of(reference, schema, anchors)
                if not isinstance(target, Mapping | bool):
                    return f"{name}: {reference[:200]!r} does not exist"
                found += [target] if isinstance(target, Mapping) else []
        level = found
    return _circle(nodes, schema, anchors)


def _circle(
    nodes: list[Mapping[str, Any]], root: Mapping[str, Any], anchors: dict[str, Any]
) -> str:
    """Find a circle of references that never steps into the checked value."""
    done: set[int] = set()
    for start in nodes:
        entered: set[int] = set()
        # Each with the last reference on the way to it.
        stack = [(start, "", False)]
        while stack:
            node, by, leaving = stack.pop()
            if leaving:
                entered.discard(id(node))
                done.add(id(node))
            elif id(node) in entered:
                return f"{by} is circular"
            elif id(node) not in done:
                entered.add(id(node))
                stack.append((node, by, True))
                stack += [(inner, by, False) for inner in _in_place(node)]
                for name, reference in _references(node):
                    target = target_of(reference, root, anchors)
                    if isinstance(target, Mapping):
                        stack.append((target, f"{name}: {reference[:200]!r}", False))
    return ""


def _in_place(node: Mapping[str, Any]) -> _Nodes:
    yield from _inner(node, _IN_PLACE)
    yield from _named(node, frozenset({"dependentSchemas"}))


def _references(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in REFERENCES:
        reference = node.get(name)
        if isinstance(reference, str) and reference.startswith("#"):
            yield name, reference


def _inner(node: Mapping[str, Any], keywords: frozenset[str]) -> _Nodes:
    for key in keywords & node.keys():
        value = node[key]
        yield from (v for v in (value if isinstance(value, list) else [value]) if _is_schema(v))


def _named(node: Mapping[str, Any], keywords: frozenset[str]) -> _Nodes:
    for key in keywords & node.keys():
        if isinstance(node[key], Mapping):
            yield from (value for value in node[key].values() if _is_schema(value))


def _is_schema(value: object) -> bool:
    return isinstance(value, Mapping)


def _subschemas(schema: Mapping[str, Any]) -> _Nodes:
    level: list[Mapping[str, Any]] = [schema]
    while level:
        yield from level
        level = [
            inner
            for node in level
            for inner in (*_inner(node, _WITHIN | _IN_PLACE), *_named(node, _BY_NAME))
        ]
