"""Where an operator sees whether Redis can be used."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from bridge.core.redis import parse_redis_url
from bridge.doctor.findings import Mark
from bridge.doctor.redis import redis_finding
from tests.support.harness import RunningBridge
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


def test_health_and_metrics_follow_redis(
    redis_server: RedisServer, start_bridge: Callable[..., RunningBridge]
) -> None:
    bridge = start_bridge(bridge_redis_url=parse_redis_url(redis_server.url))

    def seen() -> tuple[int, object, bool]:
        health = httpx.get(f"{bridge.url}/health")
        metrics = httpx.get(f"{bridge.url}/metrics").text
        return health.status_code, health.json()["redis"], "bridge_redis_up 1.0" in metrics

    assert seen() == (200, {"up": True}, True)
    redis_server.kill()
    eventually(lambda: seen() == (200, {"up": False}, False))
    redis_server.start()
    eventually(lambda: seen() == (200, {"up": True}, True))


def test_without_redis_nothing_is_said_of_it(bridge: RunningBridge) -> None:
    assert "redis" not in httpx.get(f"{bridge.url}/health").json()
    assert "redis" not in httpx.get(f"{bridge.url}/metrics").text


@pytest.mark.anyio
async def test_doctor_finds_redis_and_what_is_wrong_with_it(redis_server: RedisServer) -> None:
    address = parse_redis_url(redis_server.url)
    found = await redis_finding(address)
    assert (found.mark, found.facts["up"]) == (Mark.GOOD, True)
    assert found.facts["version"] in found.found
    redis_server.command("CONFIG", "SET", "maxmemory", "1gb")
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    found = await redis_finding(address)
    assert (found.mark, found.facts["maxmemory_policy"]) == (Mark.WARNING, "allkeys-lru")
    redis_server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    found = await redis_finding(address)
    assert found.mark is Mark.BAD
    assert "cannot be written" in found.found
    redis_server.kill()
    found = await redis_finding(address)
    assert found.mark is Mark.BAD
    assert "Connection refused" in found.found


@pytest.mark.anyio
async def test_doctor_does_not_need_the_right_to_ask(redis_server: RedisServer) -> None:
    rights = ("~claude-code-bridge:1:*", "+ping", "+set")
    redis_server.command("ACL", "SETUSER", "bridge", "on", ">pw", *rights)
    url = redis_server.url.replace("//", "//bridge:pw@")
    assert (await redis_finding(parse_redis_url(url))).mark is Mark.GOOD
