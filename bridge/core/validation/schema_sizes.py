"""The size of a JSON schema, also with its references followed. Pure.

Both walks stop as soon as there is too much, so that they cost no more than their bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_ANCHORS: Final = ("$anchor", "$dynamicAnchor")
_IDS: Final = ("$id", "id")


@dataclass(slots=True)
class SchemaSize:
    """The contents of a schema; if there is too much, only as far as it was read."""

    levels: int = 0
    """Nesting of arrays and objects."""
    values: int = 0
    subschemas: int = 0
    """Objects and booleans: everything that may be a schema."""
    references: int = 0
    longest_pattern: int = 0
    longest_text: int = 0
    characters: int = 0
    """Of all names and texts together."""
    json_characters: int = 0
    """As JSON text; 0 if that was not computed."""

    def _text(self, text: str, *, pattern: bool) -> None:
        self.longest_text = max(self.longest_text, len(text))
        self.characters += len(text)
        if pattern:
            self.longest_pattern = max(self.longest_pattern, len(text))

    def _value(self, name: str, value: Any) -> None:
        self.values += 1
        if isinstance(value, dict | bool):
            self.subschemas += 1
        elif isinstance(value, str):
            self._text(value, pattern=name == "pattern")
            self.references += name in REFERENCES
        if name == "patternProperties" and isinstance(value, dict):
            for pattern in value:
                self._text(pattern, pattern=True)


def measure(schema: Any, *, levels: int, values: int) -> SchemaSize:
    """Measure a schema, up to a little more than the given levels or values."""
    size = SchemaSize()
    size._value("", schema)
    level = [schema]
    while level and size.levels <= levels:
        size.levels += 1
        inner: list[Any] = []
        for container in level:
            named = isinstance(container, dict)
            for name in container:
                value = container[name] if named else name
                if named:
                    size._text(name, pattern=False)
                size._value(name if named else "", value)
                if isinstance(value, dict | list):
                    inner.append(value)
                if size.values > values:
                    return size
        level = inner
    return size


def expanded(schema: Mapping[str, Any], limit: int) -> int:
    """Count subschemas with each reference replaced by its target, up to about `limit`.

    A recursive reference is followed once; checking an answer follows it as often as the answer has
    levels.
    """
    anchors = anchors_of(schema)
    costs: dict[int, int] = {}
    stack: list[tuple[Any, bool]] = [(schema, False)]
    while stack:
        node, entered = stack.pop()
        if entered:
            costs[id(node)] = isinstance(node, dict) + sum(
                costs.get(id(inner), 1) for inner in _followed(node, schema, anchors)
            )
            if costs[id(node)] > limit:
                return costs[id(node)]
        elif id(node) not in costs:
            costs[id(node)] = 1
            stack.append((node, True))
            stack += [
                (inner, False)
                for inner in _followed(node, schema, anchors)
                if isinstance(inner, dict | list)
            ]
    return costs[id(schema)]


def _followed(node: Any, root: Mapping[str, Any], anchors: dict[str, Any]) -> Iterator[Any]:
    """Return possible schemas within a node, and the targets of its references."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict | list | bool):
            yield value
    if isinstance(node, dict):
        for name in REFERENCES:
            if isinstance(reference := node.get(name), str):
                target = target_of(reference, root, anchors)
                if isinstance(target, dict | list):
                    yield target


def target_of(reference: str, root: Mapping[str, Any], anchors: dict[str, Any]) -> Any:
    """Return the target of a reference within the schema; None if there is none."""
    address = unquote(reference.removeprefix("#"))
    if not address.startswith("/"):
        return anchors.get(address) if address else root
    target: Any = root
    for part in address[1:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict):
            target = target.get(name)
        elif isinstance(target, list) and name.isdecimal() and len(name) < 10:
            target = target[int(name)] if int(name) < len(target) else None
        else:
            return None
    return target


def anchors_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named parts of a schema."""
    found: dict[str, Any] = {}
    level: list[Any] = [schema]
    while level:
        for value in level:
            if isinstance(value, dict):
                found |= {value[k]: value for k in _ANCHORS if isinstance(value.get(k), str)}
                for name in _IDS:
                    if isinstance(name_ := value.get(name), str) and name_.startswith("#"):
                        found[name_[1:]] = value
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
    return found
