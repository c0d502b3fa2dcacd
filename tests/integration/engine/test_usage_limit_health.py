"""A server whose account has reached its usage limit is not ready until that resets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bridge.core.engine import usage_limits
from bridge.v1 import pool_pb2
from bridge.v1.pool_pb2_grpc import PoolServiceStub
from tests.support.harness import PATIENCE, RunningBridge, sim

Start = Callable[..., RunningBridge]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
HEADER = "anthropic-ratelimit-unified-"


class Limited:
    """A bridge whose clock a test can advance."""

    def __init__(self, running: RunningBridge) -> None:
        self.running = running
        self.ahead = 0.0
        running.bridge.engine.usage_limits._now = lambda: time.time() + self.ahead

    def post(self, text: str) -> int:
        body = {"messages": [{"role": "user", "content": text}]}
        url = f"{self.running.url}/v1/chat/completions"
        return httpx.post(url, json=body, timeout=PATIENCE, trust_env=False).status_code

    def reach(self, reset: float, limit: str = "five_hour") -> None:
        """Ask in vain, and wait for the report, which arrives after the error."""
        headers = {f"{HEADER}reset": str(int(reset)), f"{HEADER}representative-claim": limit}
        assert self.post(sim(error={"kind": "usage_limit", "headers": headers})) == 429

        async def wait() -> None:
            engine = self.running.bridge.engine
            while engine.usage_limits.latest is None:
                await engine.pool.changed()

        self.running.call(wait)

    def ready(self) -> httpx.Response:
        return httpx.get(f"{self.running.url}/readyz", timeout=PATIENCE, trust_env=False)


def test_until_the_limit_resets_no_balancer_sends_anything(
    start_bridge: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_limits, "ACCOUNT_LOOK_SECONDS", 0.1)
    limited = Limited(start_bridge(pool_size=1, bridge_spares=0))
    reset = int(time.time()) + 3600
    with grpc.insecure_channel(limited.running.target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(
            health_pb2.HealthCheckRequest(service="bridge.v1.CompletionService"), timeout=PATIENCE
        )
        assert next(watch).status == SERVING
        limited.reach(reset)
        assert next(watch).status == NOT_SERVING
        ready = limited.ready()
        assert ready.status_code == 503
        assert ready.json() == {"status": "usage_limit", "resets_at": reset}
        pool = PoolServiceStub(channel).GetPool(pool_pb2.GetPoolRequest()).pool
        assert pool.status == pool_pb2.Pool.STATUS_USAGE_LIMIT
        assert pool.reset_time.seconds == reset
        limited.ahead = 3601
        # Without a request.
        assert next(watch).status == SERVING
        assert limited.ready().json() == {"status": "ok", "resets_at": None}
        watch.cancel()


def test_an_answer_shows_that_the_limit_was_lifted_early(start_bridge: Start) -> None:
    limited = Limited(start_bridge(pool_size=1, bridge_spares=0))
    limited.reach(time.time() + 3600)
    assert limited.ready().status_code == 503
    assert limited.post(sim(text="paid")) == 200
    assert limited.ready().status_code == 200


@pytest.mark.parametrize(
    ("limit", "settings"),
    [("five_hour", {"bridge_health_usage_limits": False}), ("seven_day_opus", {})],
    ids=["not asked for", "of one model"],
)
def test_some_limits_change_nothing(
    start_bridge: Start, limit: str, settings: dict[str, bool]
) -> None:
    limited = Limited(start_bridge(pool_size=1, bridge_spares=0, **settings))
    limited.reach(time.time() + 3600, limit)
    assert limited.ready().json() == {"status": "ok", "resets_at": None}
