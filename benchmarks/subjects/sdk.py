"""Claude Code driven directly: a connected, warm `ClaudeSDKClient`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient
from claude_agent_sdk.types import ResultMessage, StreamEvent

from benchmarks.subjects.base import Answer, FailedError, Request, Usage, now
from benchmarks.subjects.direct import usage_of


class Sdk:
    """One client and its CLI, which keeps the conversation: only the last turn is sent.

    `ended` of an answer is the time of its `message_stop`; the `result` message comes later and is
    not timed.
    """

    holds_conversation = True

    def __init__(self, system: str, folder: Path, *, name: str, clears: bool = True) -> None:
        self.name = name
        self._clears = clears
        self._client = ClaudeSDKClient(
            ClaudeAgentOptions(
                system_prompt=system,
                tools=[],
                setting_sources=[],
                include_partial_messages=True,
                strict_mcp_config=True,
                cwd=folder,
                # As in the bridge: otherwise each turn is also written to a file.
                extra_args={"no-session-persistence": None},
                # The CLI's stderr would appear in the middle of the report.
                stderr=lambda _: None,
            )
        )

    async def connect(self) -> None:
        """Start the CLI and initialise it."""
        await self._client.connect()

    async def ask(self, request: Request, *, stop_after: int | None = None) -> Answer:
        """Get an answer; see `Subject.ask`."""
        seen: list[tuple[float, dict[str, Any]]] = []
        ended: float | None = None
        started = now()
        await self._client.query(request.turns[-1])
        async for message in self._client.receive_response():
            if isinstance(message, StreamEvent):
                seen.append((now(), message.event))
                if ended is None and len(seen) == stop_after:
                    ended = now()
                    await self._client.interrupt()
            elif isinstance(message, ResultMessage) and message.is_error and stop_after is None:
                raise FailedError(f"{self.name}: {message.result}")
        moments: list[float] = []
        text: list[str] = []
        usage: Usage | None = None
        for moment, event in seen:
            match event["type"]:
                case "message_start":
                    usage = usage_of(event["message"]["usage"])
                case "content_block_delta" if event["delta"]["type"] == "text_delta":
                    moments.append(moment)
                    text.append(event["delta"]["text"])
                case "message_stop" if ended is None:
                    ended = moment
        if ended is None or not moments:
            raise FailedError(f"{self.name}: incomplete answer")
        return Answer(started, ended, tuple(moments), "".join(text), usage)

    async def pause(self) -> None:
        """Nothing to wait for."""

    async def reset(self) -> None:
        """Clear the conversation, if this client ever does."""
        if self._clears:
            await self._client.query("/clear")
            async for _ in self._client.receive_response():
                pass

    async def aclose(self) -> None:
        """End the CLI."""
        await self._client.disconnect()
