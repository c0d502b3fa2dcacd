"""The simulated API called directly: the lower bound for every other subject."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from benchmarks.subjects.base import Answer, FailedError, Request, Usage, now, sse_events
from benchmarks.wire import Connection

_HEADERS = {"x-api-key": "anything", "anthropic-version": "2023-06-01"}
_MARK = {"cache_control": {"type": "ephemeral"}}


class Direct:
    """Calls the Messages API over a persistent connection."""

    holds_conversation = False

    def __init__(self, url: str, name: str = "simulated API") -> None:
        self.name = name
        address = urlsplit(url)
        self._connection = Connection(address.hostname or "", address.port or 80)

    async def ask(self, request: Request, *, stop_after: int | None = None) -> Answer:
        """Get an answer; see `Subject.ask`."""
        pieces: list[tuple[float, bytes]] = []
        started = now()
        answer = self._connection.post("/v1/messages", _body(request), _HEADERS)
        async with aclosing(answer):
            async for piece in answer:
                pieces.append((now(), piece))
                if stop_after is not None and len(pieces) >= stop_after:
                    self._connection.abort()
                    break
        ended = now()
        moments: list[float] = []
        text: list[str] = []
        usage: Usage | None = None
        stopped = stop_after is not None
        for moment, event in sse_events(pieces):
            if event["type"] == "message_start":
                usage = usage_of(event["message"]["usage"])
            elif event["type"] == "content_block_delta":
                moments.append(moment)
                text.append(event["delta"]["text"])
            stopped = stopped or event["type"] == "message_stop"
        if not stopped or not moments:
            raise FailedError(f"{self.name}: incomplete answer")
        return Answer(started, ended, tuple(moments), "".join(text), usage)

    async def pause(self) -> None:
        """Nothing is left behind."""

    async def reset(self) -> None:
        """Nothing is left behind."""

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()


def usage_of(usage: dict[str, Any]) -> Usage:
    """The input side of the API's usage."""
    cached = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    return Usage(usage["input_tokens"] + cached + written, cached)


def _body(request: Request) -> dict[str, Any]:
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}]}
        for role, text in request.messages()
    ]
    messages[-1]["content"][0] |= _MARK  # type: ignore[index,operator]
    return {
        "model": "claude-sonnet-4-5",
        "max_tokens": 4096,
        "stream": True,
        "system": [{"type": "text", "text": request.system, **_MARK}],
        "messages": messages,
    }
