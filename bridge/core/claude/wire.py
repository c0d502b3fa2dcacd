"""What the lines to and from the CLI are made of."""

from __future__ import annotations

from typing import Any, TypeAlias

Wire: TypeAlias = dict[str, Any]


TOOL_PREFIX = "mcp__client__"
"""What the CLI puts before the names of the caller's tools."""
