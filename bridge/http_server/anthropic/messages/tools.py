"""Tools on offer and the choice among them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from bridge.core.contract import Tool, ToolChoice, ToolMode
from bridge.http_server.anthropic.messages.wire_tools import AnyTool, CustomTool, ToolChoiceOption
from bridge.http_server.wire import Ignored

_MODES: Final = {
    "auto": ToolMode.AUTO,
    "any": ToolMode.REQUIRED,
    "tool": ToolMode.NAMED,
    "none": ToolMode.NONE,
}
_WHY_HOSTED: Final = "is not on offer: this server has no tools of its own"
_SEARCH: Final = "tool_search_tool_"
"""The start of the type of a search that Anthropic would run: then all tools are on offer."""


def decode_tools(
    tools: Sequence[AnyTool], referenced: Collection[str], ignored: Ignored
) -> tuple[Tool, ...]:
    """Return the tools on offer: those that are deferred only once a search has found them."""
    found = set(referenced)
    if any(tool.type is not None and tool.type.startswith(_SEARCH) for tool in tools):
        found |= {tool.name for tool in tools if isinstance(tool, CustomTool)}
    offered: list[Tool] = []
    for index, tool in enumerate(tools):
        if not isinstance(tool, CustomTool):
            ignored.add(f"tools.{tool.type}", f"tools[{index}].type", why=_WHY_HOSTED)
            continue
        if tool.cache_control is not None and index < len(tools) - 1:
            # After the last one Claude Code itself sets one, at the start of the system prompt.
            ignored.add("tools.cache_control", f"tools[{index}].cache_control")
        if not tool.defer_loading or tool.name in found:
            offered.append(Tool(tool.name, tool.description or "", tool.input_schema))
    return tuple(offered)


def decode_choice(choice: ToolChoiceOption | None) -> ToolChoice:
    """Return how the model is to use the tools."""
    if choice is None:
        return ToolChoice()
    parallel = choice.disable_parallel_tool_use is not True
    name = choice.name if choice.type == "tool" else None
    return ToolChoice(_MODES[choice.type], name, parallel)
