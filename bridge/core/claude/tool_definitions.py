"""Definitions of the caller's tools, for the API and for the CLI. Pure."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.core.contract import Tool


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool as the API accepts it."""

    name: str
    description: str
    input_schema: str
    """JSON Schema as JSON text."""

    def as_json(self) -> str:
        """Return the definition as JSON text. The schema is not parsed."""
        name, description = json.dumps(self.name), json.dumps(self.description)
        schema = self.input_schema
        return f'{{"name": {name}, "description": {description}, "input_schema": {schema}}}'


def exact_definitions(tools: Iterable[Tool], prefix: str = "") -> tuple[ToolDefinition, ...]:
    """Return the tools for the API, exactly as the caller defines them."""
    return tuple(
        ToolDefinition(prefix + tool.name, tool.description, json.dumps(schema_of(tool)))
        for tool in tools
    )


def schema_of(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's parameters, with the type that the API requires."""
    schema = dict(tool.parameters) or {"type": "object", "properties": {}}
    schema.setdefault("type", "object")
    return schema


def names_only(tools: Iterable[Tool]) -> tuple[Tool, ...]:
    """Return the tools as the CLI needs them to make calls, if the API gets the definitions."""
    return tuple(Tool(tool.name, "", {"type": "object"}) for tool in tools)


def changed_by_cli(tools: Iterable[Tool]) -> bool:
    """Whether the CLI would change the definitions of the tools.

    It normalises their texts, and removes invisible characters and some property names.
    """
    return any(
        cleaned(text) != text
        for tool in tools
        for text in (tool.description, *_texts(tool.parameters))
    )


_UNSEEN = frozenset({"Cf", "Co", "Cn"})


def cleaned(text: str) -> str:
    """Return a text of a definition as the CLI sends it; for a name that it drops, a different
    text.

    It may remove more than the CLI does, but never less.
    """
    if text == "__proto__":
        return ""
    if text.isascii():
        return text
    normal = unicodedata.normalize("NFKC", text)
    return "".join(sign for sign in normal if unicodedata.category(sign) not in _UNSEEN)


def _texts(schema: Any) -> Iterator[str]:
    level: list[Any] = [schema]
    while level:
        yield from (value for value in level if isinstance(value, str))
        level = [
            inner
            for value in level
            if isinstance(value, Mapping | list)
            for inner in ((*value, *value.values()) if isinstance(value, Mapping) else value)
        ]
