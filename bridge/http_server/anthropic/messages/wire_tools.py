"""Tools on offer in Anthropic's API, and the choice among them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from bridge.http_server.anthropic.messages.wire_content import CacheControl
from bridge.http_server.wire import SILENT, WireModel, named_unless


class CustomTool(WireModel):
    """A tool of the caller."""

    type: Literal["custom"] | None = None
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    input_schema: dict[str, Any]
    cache_control: CacheControl | None = None
    defer_loading: bool | None = None
    strict: Annotated[bool | None, named_unless(False)] = None
    input_examples: Annotated[Any, named_unless([])] = None
    allowed_callers: Annotated[Any, named_unless([], ["direct"])] = None
    eager_input_streaming: Annotated[Any, SILENT] = None
    """Arguments are always sent as they come."""


class OtherTool(WireModel):
    """A tool that Anthropic defines."""

    passed_over = True
    type: str


def _tool_kind(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "custom" if kind in (None, "custom") else "other"


AnyTool: TypeAlias = Annotated[
    Annotated[CustomTool, Tag("custom")] | Annotated[OtherTool, Tag("other")],
    Discriminator(_tool_kind),
]


class ToolChoiceOption(WireModel):
    """How the model uses the tools."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    def idle(self) -> Collection[str]:
        """What belongs to another kind of choice."""
        names = set() if self.type == "tool" else {"name"}
        return names | {"disable_parallel_tool_use"} if self.type == "none" else names
