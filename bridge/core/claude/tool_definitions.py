"""Definitions of tools, as the CLI is given them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bridge.core.contract import Tool


def tools_as_told(tools: Iterable[Tool]) -> str:
    """The tools as text that differs wherever the model sees a difference, order included."""
    return json.dumps([[tool.name, tool.description, tool.parameters] for tool in tools])
