"""Replicas that cannot serve for now: the balancer avoids them, and takes them back."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

from tests.support.front_ends import KINDS, Apis
from tests.support.harness import LONG
from tests.support.replies import Failure
from tests.system.fleet.asking import served_by, status, without_redis
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.replica import NAMES

pytestmark = LONG

LIMIT = "anthropic-ratelimit-unified-"
FAR = 4_102_444_800
"""In Unix seconds: when a limit resets that does not reset during a test."""


def limited(until: int) -> dict[str, Any]:
    """An account whose usage limit is reached until then."""
    resets = {f"{LIMIT}reset": str(until), f"{LIMIT}5h-reset": str(until)}
    return {"failure": {"kind": "usage_limit", "headers": resets}}


async def test_replicas_at_their_limit_are_avoided_until_it_resets(
    fleet: Fleet, apis: Apis
) -> None:
    soon = int(time.time()) + 20
    fleet.accounts(anna=limited(FAR), ben=limited(soon))
    for name in ("anna", "ben"):
        assert await asyncio.to_thread(status, fleet[name]) == 429
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.without("anna", "ben"))
    await served_by(fleet, apis, "cleo")
    fleet.accounts(anna=limited(FAR))
    # Nobody asks it: its health returns at the time of the limit.
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.without("anna"))
    assert time.time() >= soon


async def test_when_all_are_at_their_limit_clients_read_so(fleet: Fleet, apis: Apis) -> None:
    fleet.accounts(**dict.fromkeys(NAMES, limited(FAR)))
    for replica in fleet.replicas:
        assert await asyncio.to_thread(status, replica) == 429
    await asyncio.to_thread(fleet.envoy.wait_for, ())
    tried = fleet.envoy.counts("upstream_rq_retry")
    for kind in KINDS:
        failure = await apis.ask(kind, "Hello?")
        assert isinstance(failure, Failure)
        assert failure.status in (429, "RESOURCE_EXHAUSTED")
        assert failure.reason in ("rate_limit_exceeded", "PLAN_LIMIT")
        assert failure.retry_after
        assert failure.retryable is False
    assert fleet.envoy.counts("upstream_rq_retry") == tried


async def test_a_replica_that_stalls_is_avoided_and_goes_on(fleet: Fleet, apis: Apis) -> None:
    victim = fleet["ben"]
    victim.program.signal(signal.SIGSTOP)
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.without("ben"))
    await served_by(fleet, apis, "anna", "cleo")
    victim.program.signal(signal.SIGCONT)
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.replicas)
    assert await asyncio.to_thread(status, victim) == 200


async def test_a_fleet_serves_while_redis_stalls(fleet: Fleet, apis: Apis) -> None:
    await without_redis(fleet, apis, fleet.redis.stall, fleet.redis.resume)
