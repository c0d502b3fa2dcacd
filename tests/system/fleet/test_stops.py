"""Replicas that stop, or that are restarted one after the other, under load."""

from __future__ import annotations

import asyncio
import signal

from tests.support.front_ends import Apis
from tests.support.harness import LONG
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.load import Load, load

STOPS = 6
REQUESTS = 2_000


async def restart(fleet: Fleet, name: str, requests: Load, *, at_least: int) -> None:
    """Stop a replica as an operator does and start it again, with so many requests meanwhile."""
    replica = fleet[name]
    before = len(requests.asked)
    replica.program.signal(signal.SIGTERM)
    assert await asyncio.to_thread(replica.program.ended) == 0
    await asyncio.to_thread(replica.start)
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.replicas)
    if (missing := before + at_least - len(requests.asked)) > 0:
        await requests.more(missing)


pytestmark = LONG


async def test_six_stops_fail_none_of_two_thousand_requests(fleet: Fleet, apis: Apis) -> None:
    async with load(apis, callers=4, delay_ms=5) as requests:
        for stop in range(STOPS):
            name = fleet.replicas[stop % len(fleet.replicas)].name
            await restart(fleet, name, requests, at_least=-(-REQUESTS // STOPS))
    assert len(requests.asked) >= REQUESTS
    assert requests.failed == []


async def test_a_rolling_restart_fails_nothing(fleet: Fleet, apis: Apis) -> None:
    """Long answers, which take a part of the time that a replica has to finish them."""
    async with load(apis, callers=3, delay_ms=500) as requests:
        for replica in fleet.replicas:
            await restart(fleet, replica.name, requests, at_least=6)
    assert requests.failed == []
