"""Answers that take longer than the head of a request may, to clients that close behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from bridge.server import front_ends
from tests.support.harness import PATIENCE, RunningBridge, sim

HEAD_SECONDS = 2.0
"""How long the head of a request may take: less than the default, so that the answer can be."""
TOKENS = 20
DELAY_MS = 150


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


async def test_an_answer_longer_than_a_head_reaches_a_client_that_closes(
    start_bridge: Callable[..., RunningBridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert HEAD_SECONDS < TOKENS * DELAY_MS / 1000
    settings_of = front_ends.http_settings
    monkeypatch.setattr(
        front_ends,
        "http_settings",
        lambda *given: replace(settings_of(*given), head_seconds=HEAD_SECONDS),
    )
    running = await asyncio.to_thread(start_bridge, pool_size=4)
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
