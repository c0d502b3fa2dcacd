"""Offered tools, and the tool choice."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, WithJsonSchema

from bridge.http_server.wire import WireModel, named_unless, needing

FunctionName: TypeAlias = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
FunctionType: TypeAlias = Annotated[str | None, WithJsonSchema({"enum": ["function", None]})]
"""Any text is read, so that what is refused is refused by its name."""


class CustomFormat(WireModel):
    """The format of a custom tool's text. It becomes part of the tool's description."""

    type: Literal["text", "grammar"]
    syntax: str | None = None
    definition: str | None = None


class FunctionDefinition(WireModel):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Annotated[bool | None, named_unless(False)] = None


class ToolDefinition(WireModel):
    """A tool that the model may call."""

    model_config = needing("function")

    type: FunctionType = None
    function: FunctionDefinition | None = None


class FunctionReference(WireModel):
    """A function by its name."""

    name: str


class ToolReference(WireModel):
    """A tool by its name."""

    type: FunctionType = None
    function: FunctionReference


class AllowedTools(WireModel):
    """The tools that may be called, of those offered."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[ToolReference], Field(min_length=1)]


class FunctionChoice(WireModel):
    """The choice of one function."""

    type: Literal["function"]
    function: FunctionReference


class AllowedToolsChoice(WireModel):
    """The choice among some of the offered tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoiceObject: TypeAlias = Annotated[
    FunctionChoice | AllowedToolsChoice, Field(discriminator="type")
]
"""A tool choice that is more than a word."""
