"""Types and names of the lines exchanged with the CLI."""

from __future__ import annotations

from typing import Any, TypeAlias

Wire: TypeAlias = dict[str, Any]


TOOL_PREFIX = "mcp__client__"
"""The CLI's prefix to the names of the caller's tools, if its own tools are on. Otherwise the
caller's tools have their own names, which prompts of agents mention."""
