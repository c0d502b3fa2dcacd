"""What the tools of all endpoints share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.core.contract import Tool, ToolMode
from bridge.http_server.openai.shared.wire_tools import FunctionDefinition

MODES: Final[Mapping[str, ToolMode]] = {
    "none": ToolMode.NONE,
    "auto": ToolMode.AUTO,
    "required": ToolMode.REQUIRED,
}


def decode_function(function: FunctionDefinition) -> Tool:
    """Read a function on offer."""
    return Tool(function.name, function.description or "", function.parameters or {})
