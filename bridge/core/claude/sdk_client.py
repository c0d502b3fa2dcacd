"""The Agent SDK's client: initialises the CLI and answers it for the tool server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

from bridge.core.claude.capabilities import Facts
from bridge.core.claude.client_tools import SERVER_NAME, ToolServer
from bridge.core.claude.control import CONTROL_TIMEOUT, ControlError, ControlTransport
from bridge.core.claude.processes import ProcessGoneError
from bridge.core.contract import Tool


class SdkClient:
    """The client of one session, on the session's own transport."""

    def __init__(self, transport: ControlTransport, tools: ToolServer) -> None:
        self._transport = transport
        self._tools = tools
        self._client: ClaudeSDKClient | None = None

    async def connect(self) -> Facts:
        """Initialise the CLI; raises ControlError or ProcessGoneError if that fails."""
        options = ClaudeAgentOptions(mcp_servers=self._tools.as_option())
        self._client = client = ClaudeSDKClient(options, transport=self._transport)
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT):
                await client.connect()
        except Exception as error:
            if not self._transport.is_ready():
                raise ProcessGoneError from error
            raise ControlError("initialize failed", str(error)) from error
        return Facts.of(await client.get_server_info() or {})

    async def offer(self, tools: Sequence[Tool]) -> None:
        """Offer exactly these tools: the CLI is notified, and lists them soon."""
        if self._tools.tools:
            # The CLI lists a server's tools only when it is added.
            await self._transport.set_tool_servers(())
        withdrawn = self._tools.offer(tools)
        if tools:
            await self._transport.set_tool_servers((SERVER_NAME,), without=withdrawn)

    async def disconnect(self) -> None:
        """Clean up, once the transport is closed."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                await self._client.disconnect()
