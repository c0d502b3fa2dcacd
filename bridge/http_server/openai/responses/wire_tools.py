"""Tools of a Responses request, and the tool choice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Discriminator, Tag, WithJsonSchema

from bridge.http_server.openai.shared.wire_tools import (
    CustomFormat,
    FunctionDefinition,
    FunctionName,
)
from bridge.http_server.wire import SILENT, WireModel

_KINDS: Final = frozenset({"function", "custom", "namespace", "tool_search"})

_Hint: TypeAlias = Annotated[Any, SILENT]


class FunctionTool(FunctionDefinition):
    """A function that the model may call."""

    type: Literal["function"] | None = None
    defer_loading: _Hint = None


class CustomTool(WireModel):
    """A tool that takes one free text."""

    type: Literal["custom"]
    name: FunctionName
    description: str | None = None
    format: CustomFormat | None = None
    defer_loading: _Hint = None


def _tool_kind(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    if kind is None:
        return "function"
    return kind if isinstance(kind, str) and kind in _KINDS else "other"


GroupedTool: TypeAlias = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[CustomTool, Tag("custom")],
    Discriminator(_tool_kind),
]


class NamespaceTool(WireModel):
    """A group of tools."""

    type: Literal["namespace"]
    name: FunctionName
    description: str | None = None
    tools: list[GroupedTool]


class SearchTool(WireModel):
    """A search for more tools, offered if the caller runs it."""

    type: Literal["tool_search"]
    execution: Literal["client", "server"] | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None


class OtherTool(WireModel):
    """A tool hosted by OpenAI."""

    passed_over = True
    type: str


ResponseTool: TypeAlias = Annotated[
    Annotated[FunctionTool, Tag("function")]
    | Annotated[CustomTool, Tag("custom")]
    | Annotated[NamespaceTool, Tag("namespace")]
    | Annotated[SearchTool, Tag("tool_search")]
    | Annotated[OtherTool, Tag("other")],
    Discriminator(_tool_kind),
]


class NamedTool(WireModel):
    """The choice of one tool."""

    type: str | None = None
    name: str | None = None
    namespace: str | None = None


class ResponseToolChoice(WireModel):
    """A tool choice in the form of an object."""

    type: Annotated[
        str, WithJsonSchema({"enum": ["function", "custom", "tool_search", "allowed_tools"]})
    ]
    name: str | None = None
    namespace: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[NamedTool] | None = None

    def idle(self) -> Collection[str]:
        """Fields of another kind of choice."""
        if self.type == "allowed_tools":
            return {"name", "namespace"}
        return {"mode", "tools"}
