"""Which tool a call of the model is for."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from bridge.core.claude.wire import TOOL_PREFIX, Wire

OUTPUT_TOOL = "StructuredOutput"
"""The tool that the CLI offers if it was initialised with a JSON schema."""


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """The tools that the caller offers; a model may also call others."""

    names: Container[str] | None
    """Without the prefix; None takes every call as one of theirs."""
    prefix: str
    """What the CLI puts before the names."""
    structured: bool
    """Whether the CLI offers its own `OUTPUT_TOOL`."""

    def include(self, name: str) -> bool:
        """Whether a call is for the caller; `name` is in the CLI's form."""
        if not name.startswith(self.prefix) or (self.structured and name == OUTPUT_TOOL):
            return False
        return self.names is None or self.bare(name) in self.names

    def strays(self, name: str) -> bool:
        """Whether a call is for a tool that is not offered. The CLI then corrects the model."""
        if self.structured and name == OUTPUT_TOOL:
            return False
        return name.startswith(self.prefix) and not self.include(name)

    def bare(self, name: str) -> str:
        """Return the name in the caller's form."""
        return name.removeprefix(self.prefix)


def calls_builtin_tool(line: Wire) -> bool:
    """Whether a line of the CLI is an answer that calls one of the CLI's own tools."""
    if line["type"] != "assistant":
        return False
    content = (line.get("message") or {}).get("content")
    return isinstance(content, list) and any(
        block.get("type") == "tool_use"
        and block["name"] != OUTPUT_TOOL
        and not block["name"].startswith(TOOL_PREFIX)
        for block in content
    )
