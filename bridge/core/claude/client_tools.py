"""The caller's tools, served to the CLI by an in-process MCP server.

The tools change from request to request. A call waits for the result that the caller sends with a
later request, or for the end of the turn. The SDK carries the messages between this server and the
CLI.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mcp_types as mcp
from claude_agent_sdk import McpServerConfig
from mcp.server.lowlevel import Server

from bridge.core.claude.tool_definitions import schema_of
from bridge.core.claude.wire import TOOL_PREFIX, Wire
from bridge.core.contract import Tool

SERVER_NAME = "client"
MAX_RESULT_CHARACTERS = 500_000
"""The CLI replaces a longer result with a preview, so it is replayed instead."""

_META = {"anthropic/maxResultSizeChars": MAX_RESULT_CHARACTERS}
# Without the hint, the CLI makes parallel calls one after another.
_ANNOTATIONS = mcp.ToolAnnotations(read_only_hint=True)


MAX_TOOL_NAMES = 1_000
"""Tool names that one process is given; the CLI accepts 2,048 names to withdraw."""


def definitions_of(tools: Iterable[Tool]) -> str:
    """Serialize the tools so that the text differs whenever the model sees a difference, including
    the order."""
    return json.dumps([[tool.name, tool.description, tool.parameters] for tool in tools])


class ToolServer:
    """The tools of one session and the calls that wait for results."""

    def __init__(self, on_change: Callable[[], None], prefix: str = "") -> None:
        """`on_change` is called when the CLI lists the tools or calls one; `prefix` is what the CLI
        puts before their names."""
        self.prefix = prefix
        self.server: Server[Any] = Server(
            SERVER_NAME, on_list_tools=self._list, on_call_tool=self._call
        )
        self.tools: tuple[Tool, ...] = ()
        """The tools on offer. After a change, the CLI must be made to list them again."""
        self.listed = False
        """Whether the CLI has listed the tools on offer."""
        self._definitions = definitions_of(())
        self._names: set[str] = set()
        self._on_change = on_change
        self._seen: dict[tuple[str, str], list[str]] = {}
        self._calls: dict[str, asyncio.Future[mcp.CallToolResult]] = {}

    def as_option(self) -> dict[str, McpServerConfig]:
        """Return this server as an option of the SDK's client."""
        return {SERVER_NAME: {"type": "sdk", "name": SERVER_NAME, "instance": self.server}}

    @property
    def full(self) -> bool:
        """Whether the process has been given so many names that it must be replaced."""
        return len(self._names) > MAX_TOOL_NAMES

    def offers(self, tools: Sequence[Tool]) -> bool:
        """Whether exactly these tools are offered."""
        return definitions_of(tools) == self._definitions

    def offer(self, tools: Sequence[Tool]) -> list[str]:
        """Offer these tools from the next listing on; return the names that are withdrawn."""
        self.tools = tuple(tools)
        self._definitions = definitions_of(tools)
        self.listed = False
        # With the prefix even if the model sees them without.
        names = {TOOL_PREFIX + tool.name for tool in tools}
        withdrawn = sorted(self._names - names)
        self._names |= names
        return withdrawn

    def waits_for(self, ids: Iterable[str]) -> bool:
        """Whether all of these calls have arrived and wait for their results."""
        return set(ids) <= self._calls.keys()

    def answer(self, results: Iterable[Wire]) -> None:
        """Deliver the results of calls, all of which must be waiting."""
        for result in results:
            self._calls.pop(result["tool_use_id"]).set_result(_result(result))

    async def _list(
        self, _context: object, _params: mcp.PaginatedRequestParams | None
    ) -> mcp.ListToolsResult:
        self.listed = True
        self._on_change()
        return mcp.ListToolsResult(tools=[self._tool(tool) for tool in self.tools])

    def _tool(self, tool: Tool) -> mcp.Tool:
        schema = schema_of(tool)
        # If two tools with the same name and schema are offered one after the other, the CLI keeps
        # the description of the first. A comment, which has no meaning, makes the schemas differ.
        known = self._seen.setdefault((tool.name, json.dumps(schema, sort_keys=True)), [])
        if tool.description not in known:
            known.append(tool.description)
        if version := known.index(tool.description):
            schema["$comment"] = f"{schema.get('$comment', '')} ({version + 1})".strip()
        return mcp.Tool(
            name=tool.name,
            description=tool.description,
            input_schema=schema,
            annotations=_ANNOTATIONS,
            _meta=_META,
        )

    async def _call(
        self, _context: object, params: mcp.CallToolRequestParams
    ) -> mcp.CallToolResult:
        call_id = str((params.meta or {}).get("claudecode/toolUseId", ""))
        future: asyncio.Future[mcp.CallToolResult] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = future
        self._on_change()
        try:
            return await future
        finally:
            # Answered, or cancelled with the turn.
            if self._calls.get(call_id) is future:
                del self._calls[call_id]


def deliverable(result: Wire) -> bool:
    """Whether a result can be delivered to a waiting call; if not, it must be replayed."""
    size = 0
    said = False
    for block in result["content"]:
        if block["type"] == "text":
            size += len(block["text"])
            said = said or bool(block["text"].strip())
            continue
        said = True
        if block["type"] != "image" or block["source"]["type"] != "base64":
            # MCP has no images by URL, and of its documents the model would get only the name of a
            # file that the CLI puts them in.
            return False
    # The CLI would replace a blank result with a text of its own.
    return said and size <= MAX_RESULT_CHARACTERS


def _result(result: Wire) -> mcp.CallToolResult:
    return mcp.CallToolResult(
        content=[_content(block) for block in result["content"]],
        is_error=result.get("is_error", False),
    )


def _content(block: Wire) -> mcp.ContentBlock:
    if block["type"] == "text":
        return mcp.TextContent(type="text", text=block["text"])
    source = block["source"]
    return mcp.ImageContent(type="image", data=source["data"], mime_type=source["media_type"])
