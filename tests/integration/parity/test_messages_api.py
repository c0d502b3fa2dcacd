"""Whole messages fail as chat completions do."""

from __future__ import annotations

import time
from collections.abc import Mapping

import httpx
import pytest

from tests.support.harness import PATIENCE, RunningBridge, sim
from tests.support.http.messages import ENOUGH, TYPES
from tests.support.waiting import at_once

REJECTED = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": str(int(time.time()) + 7200),
}
WHOLE: Mapping[str, tuple[str, Mapping[str, str], str, int, int]] = {
    "the usage limit": (
        sim(error={"status": 429, "headers": REJECTED}),
        {},
        "plan_limit",
        429,
        429,
    ),
    "500": (sim(error={"status": 500}), {}, "upstream_error", 503, 503),
    "529": (sim(error={"status": 529}), {}, "overloaded", 503, 529),
    "an end in the middle": (sim(tokens=9, error_after=5), {}, "overloaded", 503, 529),
    "the time limit": (
        sim(tokens=50, delay_ms=60_000),
        {"x-bridge-timeout": "2"},
        "deadline_exceeded",
        504,
        504,
    ),
}
"""What goes wrong, with which headers; Anthropic's code; the statuses of chat and of messages."""


@pytest.mark.parametrize(
    ("directive", "headers", "code", "as_chat", "own"), WHOLE.values(), ids=WHOLE
)
def test_whole_answers_fail_alike(
    bridge: RunningBridge,
    directive: str,
    headers: Mapping[str, str],
    code: str,
    as_chat: int,
    own: int,
) -> None:
    body = {"model": "default", "messages": [{"role": "user", "content": f"x {directive}"}]}
    with httpx.Client(base_url=bridge.url, headers=headers, timeout=PATIENCE) as client:
        chat, message = at_once(
            lambda: client.post("/v1/chat/completions", json=body),
            lambda: client.post("/v1/messages", json={**body, "max_tokens": ENOUGH}),
        )

    assert (chat.status_code, message.status_code) == (as_chat, own)
    error = message.json()["error"]
    assert error["type"] == TYPES[own]
    assert error["details"]["error_code"] == code
    assert error["message"] == chat.json()["error"]["message"]
    for header in ("retry-after", "x-should-retry"):
        assert (header in message.headers) is (header in chat.headers), header
