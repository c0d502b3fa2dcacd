"""Code for tools shared by all endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.core.contract import Tool, ToolMode
from bridge.http_server.openai.shared.wire_tools import CustomFormat, FunctionDefinition

MODES: Final[Mapping[str, ToolMode]] = {
    "none": ToolMode.NONE,
    "auto": ToolMode.AUTO,
    "required": ToolMode.REQUIRED,
}


def decode_function(function: FunctionDefinition) -> Tool:
    """Decode an offered function."""
    return Tool(function.name, function.description or "", function.parameters or {})


def decode_custom(name: str, description: str | None, form: CustomFormat | None) -> Tool:
    """Decode a tool that takes one free text; its grammar becomes part of the description."""
    said = [description] if description else []
    if form is not None and form.definition:
        syntax = f" ({form.syntax})" if form.syntax else ""
        said.append(f"The input must match this grammar{syntax}:\n{form.definition}")
    return Tool(name, "\n\n".join(said), free_text=True)
