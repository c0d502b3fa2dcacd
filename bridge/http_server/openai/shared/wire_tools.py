"""Tools on offer, and the choice among them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from bridge.http_server.openai.shared.wire import WireModel

FunctionName: TypeAlias = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(WireModel):
    """A function on offer to the model."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolDefinition(WireModel):
    """A tool on offer to the model."""

    type: str | None = None
    function: FunctionDefinition | None = None


class FunctionReference(WireModel):
    """A function by its name."""

    name: str


class ToolReference(WireModel):
    """A tool by its name."""

    type: str | None = None
    function: FunctionReference


class AllowedTools(WireModel):
    """The tools that may be called, out of those on offer."""

    mode: Literal["auto", "required"]
    tools: list[ToolReference]


class ToolChoiceObject(WireModel):
    """A tool choice that is more than a word."""

    type: Literal["function", "allowed_tools", "custom"]
    function: FunctionReference | None = None
    allowed_tools: AllowedTools | None = None
