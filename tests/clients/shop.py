"""An MCP server with one tool, on standard input and output, for Claude Code as a client."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")


@server.tool()
def price(item: str) -> str:
    """Say what an item costs."""
    return f"{item} cost 3"


if __name__ == "__main__":
    server.run()
