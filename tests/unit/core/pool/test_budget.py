"""Several pools on one budget: each gets what it needs, and together they keep to the limits."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.claude.turn_settings import Profile
from bridge.core.pool import Need, Pool, Recycling
from bridge.core.pool.budget import Budget, Claim, share_of
from bridge.core.pool.policy import PoolLimits
from tests.unit.core.pool.test_pool import spawn

A, B = Profile("a"), Profile("b")
LIMITS = PoolLimits(pool_size=2, max_processes=4, spares=1)

claims = st.builds(
    Claim,
    processes=st.integers(0, 4),
    running=st.integers(0, 2),
    closing=st.integers(0, 2),
    waiting=st.lists(st.integers(1, 99), max_size=4).map(lambda ids: tuple(sorted(ids))),
    short=st.integers(0, 2),
)


@given(own=claims, others=st.lists(claims, max_size=3))
def test_no_share_exceeds_what_the_others_leave(own: Claim, others: list[Claim]) -> None:
    share = share_of(LIMITS, own, others)
    running = sum(other.running for other in others)
    assert share.pool_size <= max(LIMITS.pool_size - running, own.running)
    taken = sum(other.processes for other in others)
    assert share.max_processes <= max(LIMITS.max_processes - taken, 0)
    assert share.minimum <= share.max_processes


def test_a_free_turn_is_left_to_the_request_that_has_waited_longest() -> None:
    early, late = Claim(running=1, waiting=(3,)), Claim(waiting=(4, 5))
    assert share_of(LIMITS, early, [late]).pool_size == 2
    assert share_of(LIMITS, late, [early]).pool_size == 0


class Budgeted:
    """Two pools on one budget."""

    def __init__(self, limits: PoolLimits) -> None:
        self.budget = Budget(limits)
        self.first, self.second = (self._pool(limits) for _ in range(2))
        self.limits = limits

    def _pool(self, limits: PoolLimits) -> Pool:
        pool = Pool(
            spawn,  # type: ignore[arg-type]  # it stands in for a Session
            limits,
            queue_size=99,
            clock=time.monotonic,
            recycling=Recycling(memory_bytes=2**60),
            budget=self.budget,
        )
        pool.start()
        return pool

    def check(self) -> None:
        counts = [self.first.counts(), self.second.counts()]
        assert sum(sum(count.values()) for count in counts) <= self.limits.max_processes
        assert sum(count["running"] for count in counts) <= self.limits.pool_size


@pytest.fixture
async def pools() -> AsyncIterator[Budgeted]:
    pools = Budgeted(LIMITS)
    await pools.first.wait_for(lambda counts: counts["blank"] == 3)
    await pools.second.wait_for(lambda counts: counts["blank"] == 1)
    yield pools
    await asyncio.gather(pools.first.aclose(), pools.second.aclose())


async def test_a_pool_without_room_gets_the_place_of_an_unused_process(pools: Budgeted) -> None:
    leases = [await pools.second.acquire(Need(A)) for _ in range(2)]
    pools.check()
    assert sum(pools.first.counts().values()) < 3
    for lease in leases:
        pools.second.release(lease)
    leases = [await pools.first.acquire(Need(B)) for _ in range(2)]
    pools.check()
    for lease in leases:
        pools.first.release(lease)


async def test_a_turn_that_ends_in_one_pool_goes_to_the_request_of_another(pools: Budgeted) -> None:
    leases = [await pools.first.acquire(Need(A)) for _ in range(2)]
    early = asyncio.ensure_future(pools.second.acquire(Need(A)))
    await pools.second.wait_for(lambda _: pools.second.waiting == 1)
    late = asyncio.ensure_future(pools.first.acquire(Need(A)))
    await pools.first.wait_for(lambda _: pools.first.waiting == 1)
    pools.first.release(leases[0])
    second = await early
    pools.check()
    assert not late.done()
    pools.second.release(second)
    pools.first.release(await late)
    pools.first.release(leases[1])


async def test_mixed_traffic_stays_within_the_budget_and_all_of_it_is_served(
    pools: Budgeted,
) -> None:
    chance = random.Random(7)

    async def request(number: int) -> None:
        pool = chance.choice((pools.first, pools.second))
        lease = await pool.acquire(Need(chance.choice((A, B)), str(number % 3)))
        pools.check()
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
            pools.check()
        pool.release(lease)

    await asyncio.gather(*(request(number) for number in range(200)))
