"""Answers that take longer than the head of a request may, to clients that close behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from urllib.parse import urlsplit

from bridge.http_server.context import HttpSettings
from tests.support.harness import PATIENCE, RunningBridge, sim

TOKENS = 40
DELAY_MS = 500


async def answer(url: str, version: str, *, stream: bool) -> bytes:
    """Ask in one write, and take all that comes until the server closes the connection."""
    messages = [{"role": "user", "content": sim(tokens=TOKENS, delay_ms=DELAY_MS)}]
    body = json.dumps({"stream": stream, "messages": messages}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/{version}\r\nhost: localhost\r\nconnection: close\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(head.encode() + body)
        return await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
        await writer.wait_closed()


async def test_an_answer_of_20_seconds_reaches_a_client_that_closes(
    start_bridge: Callable[..., RunningBridge],
) -> None:
    assert HttpSettings().head_seconds < TOKENS * DELAY_MS / 1000
    # CLAUDE_TIMEOUT limits the wait for the first token and silence, but not an answer that flows.
    running = await asyncio.to_thread(start_bridge, pool_size=4, claude_timeout=15)
    assert running.settings.claude_timeout < TOKENS * DELAY_MS / 1000
    kinds = [(version, stream) for version in ("1.0", "1.1") for stream in (True, False)]
    received = await asyncio.gather(
        *(answer(running.url, version, stream=stream) for version, stream in kinds)
    )
    for (_, stream), data in zip(kinds, received, strict=True):
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), data
        assert b"HTTP/1." not in body
        if stream:
            assert b"data: [DONE]" in body
            assert b'"error"' not in body
        else:
            assert json.loads(body)["usage"]["completion_tokens"] >= TOKENS
