"""Two bridges on one Redis hold a key to its limits together, also if Redis is killed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.core.access.keys import KeyFile, KeyLimits
from bridge.core.redis import parse_redis_url
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim
from tests.support.redis_server import RedisServer
from tests.support.waiting import at_once, eventually


class Fleet:
    """Two bridges with the same keys."""

    def __init__(self, start: Callable[..., RunningBridge], redis: str, folder: Path) -> None:
        keys = folder / "keys.json"
        self.file = KeyFile(keys)
        self.file.add("any")
        self.bridges = [
            start(
                bridge_redis_url=parse_redis_url(redis),
                bridge_keys_file=keys,
                bridge_session_log="off",
                pool_size=4,
            )
            for _ in range(2)
        ]
        self.clients = [
            httpx.Client(base_url=bridge.url, timeout=PATIENCE, trust_env=False)
            for bridge in self.bridges
        ]

    def key(self, **limits: Any) -> dict[str, str]:
        """The headers with a new key."""
        return {"authorization": f"Bearer {self.file.add('k', limits=KeyLimits(**limits))}"}

    def ask(self, number: int, key: dict[str, str], text: str = "Hi.") -> httpx.Response:
        body = {"model": "default", "messages": [{"role": "user", "content": text}]}
        return self.clients[number].post("/v1/chat/completions", json=body, headers=key)

    @contextmanager
    def held(self, number: int, key: dict[str, str]) -> Iterator[None]:
        """An answer that is running, and is left at the end."""
        message = {"role": "user", "content": sim(endless=True, delay_ms=50)}
        body = {"model": "default", "messages": [message], "stream": True}
        url = "/v1/chat/completions"
        with self.clients[number].stream("POST", url, json=body, headers=key) as reply:
            assert reply.status_code == 200, reply.read()
            # Kept: closing the iterator would close the connection.
            lines = reply.iter_lines()
            assert next(lines)
            yield

    def redis_is(self, *, up: bool) -> None:
        """Wait until both bridges know it."""
        for client in self.clients:
            eventually(lambda: client.get("/health").json()["redis"]["up"] is up)  # noqa: B023


@pytest.fixture
def fleet(
    start_bridge: Callable[..., RunningBridge], redis_server: RedisServer, tmp_path: Path
) -> Iterator[Fleet]:
    fleet = Fleet(start_bridge, redis_server.url, tmp_path)
    yield fleet
    for client in fleet.clients:
        client.close()


def code(reply: httpx.Response) -> str:
    assert reply.status_code == 429, reply.text
    return str(reply.json()["error"]["message"])


@LONG
def test_a_key_has_its_limits_once_over_both(fleet: Fleet, redis_server: RedisServer) -> None:
    key = fleet.key(concurrent=3, per_minute=10, tokens_per_day=1_000_000)
    with ExitStack() as held:
        for number in (0, 1, 0):
            held.enter_context(fleet.held(number, key))
        for number in (0, 1):
            assert "3 concurrent requests" in code(fleet.ask(number, key))
    for number in (0, 1):
        # Those that were left have ended in a moment.
        eventually(lambda: fleet.ask(number, key).status_code == 200)  # noqa: B023
    replies = at_once(*(lambda number=each % 2: fleet.ask(number, key) for each in range(3)))
    assert [reply.status_code for reply in replies] == [200, 200, 200]
    reply = fleet.ask(0, key)
    assert (reply.status_code, reply.headers["x-ratelimit-remaining-requests"]) == (200, "1")
    left = int(reply.headers["x-ratelimit-remaining-tokens"])

    redis_server.kill()
    fleet.redis_is(up=False)
    redis_server.start()
    fleet.redis_is(up=True)
    # All of what was used is known again, of both.
    eventually(
        lambda: (
            fleet.clients[1].get("/v1/models", headers=key).headers["x-ratelimit-remaining-tokens"]
            == str(left)
        )
    )


def test_the_minute_and_the_budget_are_shared(fleet: Fleet) -> None:
    key = fleet.key(per_minute=4)
    replies = at_once(*(lambda number=each % 2: fleet.ask(number, key) for each in range(8)))
    assert sorted(reply.status_code for reply in replies) == [200] * 4 + [429] * 4
    for number in (0, 1):
        assert "4 requests per minute" in code(fleet.ask(number, key))

    fleet.file.revoke("k")
    key = fleet.key(tokens_per_day=1, usd_per_month=100)
    assert fleet.ask(0, key).status_code == 200
    for number in (0, 1):
        reply = fleet.ask(number, key)
        assert "1 tokens per day" in code(reply)
        assert reply.headers["x-ratelimit-remaining-tokens"] == "0"


def test_without_redis_each_serves_and_counts_by_itself(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    key = fleet.key(per_minute=3)
    assert fleet.ask(0, key).status_code == 200
    redis_server.kill()
    fleet.redis_is(up=False)
    for number, allowed in ((0, 2), (1, 3)):
        assert [fleet.ask(number, key).status_code for _ in range(allowed)] == [200] * allowed
        assert "3 requests per minute" in code(fleet.ask(number, key))
    redis_server.start()
    fleet.redis_is(up=True)
    for number in (0, 1):
        assert "3 requests per minute" in code(fleet.ask(number, key))
