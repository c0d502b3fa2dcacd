"""Replicas that count in one Redis: what is left of one that is killed, and of a Redis that is."""

from __future__ import annotations

import asyncio
from calendar import timegm
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bridge.core.access import redis_counts
from bridge.core.access.keys import KeyLimits
from bridge.core.access.redis_counts import LEASE_SECONDS, RENEW_SECONDS
from bridge.core.access.spending import USAGE_FILE
from bridge.core.contract import RateLimitedError
from bridge.core.redis import RedisLink
from tests.support.quota_places import Place, Replica, use
from tests.support.redis_server import RedisServer
from tests.support.waiting import soon, until

NOON = float(timegm((2026, 12, 30, 12, 0, 0)))
BUDGET = KeyLimits(tokens_per_day=100, usd_per_month=50)


@pytest.fixture
async def place(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        place = Place("redis", tmp_path, NOON, stack)
        place.use(redis_server)
        yield place


async def changed(link: RedisLink, *, up: bool) -> None:
    """Wait until the link is up, or away."""
    came = asyncio.Event()
    link.follow(lambda now: came.set() if now is up else None)
    if link.up is not up:
        await soon(came.wait())


async def refused(replica: Replica) -> str:
    with pytest.raises(RateLimitedError) as raised:
        await use(replica.quotas)
    return raised.value.reason


async def admits(replica: Replica) -> bool:
    try:
        await use(replica.quotas)
    except RateLimitedError:
        return False
    return True


async def known(replica: Replica) -> dict[str, float]:
    """What a replica knows of the budgets once it has asked."""
    await replica.counts._call("k")
    return replica.quotas.budget_shares("k")


async def knows(replica: Replica, shares: dict[str, float]) -> bool:
    return await known(replica) == shares


async def test_an_admission_takes_one_round_trip_its_end_one_and_no_limits_none(
    place: Place,
) -> None:
    replica = await place.replica()
    link = replica.link
    await use(replica.quotas, 10, 1.0)
    place.limits = KeyLimits(models=("opus",))
    await use(replica.quotas, 10, 1.0)
    assert link.calls == 0
    place.limits = KeyLimits(concurrent=3, per_minute=10, tokens_per_day=100)
    async with replica.quotas.admitted("k") as meter:
        assert link.calls == 1
        # The headers of the reply.
        left = await replica.quotas.allowances("k")
        assert left.requests is not None
        assert left.requests.remaining == 9
        assert link.calls == 1
        meter.tokens = 30
    assert link.calls == 2
    left = await replica.quotas.allowances("k")
    assert left.tokens is not None
    assert left.tokens.remaining == 70
    await asyncio.sleep(0)
    assert link.calls == 2


async def test_a_killed_replica_gives_its_requests_back_when_their_leases_end(
    place: Place,
) -> None:
    place.limits = KeyLimits(concurrent=1)
    killed, other = await place.replica(), await place.replica()
    await killed.counts.admit("k", place.limits)
    place.pass_(LEASE_SECONDS - 5)
    assert await refused(other) == "KEY_REQUESTS_AT_ONCE"
    place.pass_(5)
    await use(other.quotas)


async def test_the_lease_of_a_running_request_is_renewed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RENEW_SECONDS < LEASE_SECONDS / 2
    monkeypatch.setattr(redis_counts, "RENEW_SECONDS", 0.0)
    place.limits = KeyLimits(concurrent=1)
    one, other = await place.replica(), await place.replica()
    async with one.quotas.admitted("k"):
        for _ in range(2):
            place.pass_(LEASE_SECONDS - 5)
            seen = one.link.calls
            # One that began before may end now.
            await until(lambda: one.link.calls >= seen + 2)  # noqa: B023 - at once
            assert await refused(other) == "KEY_REQUESTS_AT_ONCE"
    await use(other.quotas)


async def test_a_renewal_that_comes_after_the_end_leaves_no_lease(place: Place) -> None:
    place.limits = KeyLimits(concurrent=1)
    one, other = await place.replica(), await place.replica()
    id = await one.counts.admit("k", place.limits)
    one.link.held = held = asyncio.Event()
    renewal = asyncio.create_task(one.counts._call("k", renew=True))
    await asyncio.sleep(0)
    await one.counts.finish("k", id)
    held.set()
    await soon(renewal)
    await until(lambda: admits(other))


@pytest.mark.parametrize("moment", ["admission", "end"])
async def test_a_request_whose_caller_leaves_is_not_counted_for_longer(
    place: Place, moment: str
) -> None:
    place.limits = KeyLimits(concurrent=1, tokens_per_day=100)
    one, other = await place.replica(), await place.replica()
    held = asyncio.Event()

    async def request() -> None:
        if moment == "admission":
            one.link.withheld = held
        async with one.quotas.admitted("k") as meter:
            meter.tokens = 60
            one.link.held = held

    calls = 1 if moment == "admission" else 2
    task = asyncio.create_task(request())
    await until(lambda: one.link.calls >= calls and one.link.replies >= 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: admits(other))
    expected = 0.0 if moment == "admission" else 0.6
    assert (await known(other))["tokens_per_day"] == expected


async def test_without_redis_each_counts_by_itself_and_makes_up_for_it_later(
    place: Place, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    place.limits = KeyLimits(concurrent=2, per_minute=6, tokens_per_day=100, usd_per_month=50)
    one, other = await place.replica(), await place.replica()
    await use(one.quotas, 10, 5.0)
    await use(other.quotas, 20, 10.0)
    await until(lambda: knows(one, {"tokens_per_day": 0.3, "usd_per_month": 0.3}))

    async with one.quotas.admitted("k") as before:
        before.tokens = 5
        redis_server.kill()
        async with one.quotas.admitted("k") as during:
            during.tokens = 7
            assert await refused(one) == "KEY_REQUESTS_AT_ONCE"
            # Each has the whole limit.
            async with other.quotas.admitted("k"), other.quotas.admitted("k"):
                assert await refused(other) == "KEY_REQUESTS_AT_ONCE"
            one.quotas.charge("k", 2.5)
            assert one.quotas.budget_shares("k") == {"tokens_per_day": 0.3, "usd_per_month": 0.35}

            redis_server.start()
            await changed(one.link, up=True)
            await changed(other.link, up=True)
            await until(lambda: not (other.counts._behind or one.counts._behind))
            # The Redis that has started is empty: it has learnt of the requests that run.
            assert await refused(other) == "KEY_REQUESTS_AT_ONCE"
    # Three of this minute began when there was no Redis. What it has lost is only which began
    # before.
    await use(one.quotas)
    await use(other.quotas)
    await use(other.quotas)
    assert await refused(other) == "KEY_REQUESTS_PER_MINUTE"
    assert await known(other) == {"tokens_per_day": 0.42, "usd_per_month": 0.35}
    assert await known(one) == {"tokens_per_day": 0.42, "usd_per_month": 0.35}
    assert sum("is unavailable" in record.message for record in caplog.records) == 2


async def test_without_redis_a_budget_goes_on_from_what_was_known_of_all(
    place: Place, redis_server: RedisServer
) -> None:
    place.limits = BUDGET
    one, other = await place.replica(), await place.replica()
    await use(other.quotas, 90)
    await use(one.quotas, 4)
    redis_server.kill()
    await use(one.quotas, 6)
    assert await refused(one) == "KEY_TOKENS_PER_DAY"
    # The others' use of a day that is over does not count.
    place.clocks.pass_(86_400)
    await use(one.quotas, 6)


async def test_a_request_of_which_redis_did_not_say_whether_it_was_admitted_counts_once(
    place: Place, redis_server: RedisServer
) -> None:
    place.limits = KeyLimits(concurrent=2, per_minute=3, tokens_per_day=100)
    one, other = await place.replica(), await place.replica()
    redis_server.stall()
    async with one.quotas.admitted("k") as meter:
        meter.tokens = 40
        redis_server.resume()
        await changed(one.link, up=True)
        async with other.quotas.admitted("k"):
            await changed(other.link, up=True)
            assert await refused(other) == "KEY_REQUESTS_AT_ONCE"
    await use(other.quotas)
    assert await refused(other) == "KEY_REQUESTS_PER_MINUTE"
    assert await known(other) == {"tokens_per_day": 0.4}
    # Nor does it count twice if the same is told again.
    assert await known(one) == {"tokens_per_day": 0.4}


async def test_what_was_used_without_redis_before_a_restart_counts_after_it(
    place: Place, redis_server: RedisServer, tmp_path: Path
) -> None:
    place.limits = BUDGET
    file = tmp_path / "one" / USAGE_FILE
    one, other = await place.replica(file), await place.replica()
    await use(other.quotas, 20)
    redis_server.kill()
    await use(one.quotas, 30)
    await one.counting.aclose()
    redis_server.start()
    await changed(other.link, up=True)
    again = await place.replica(file)
    await until(lambda: again.link.calls > 0)
    assert (await known(other))["tokens_per_day"] == 0.5
    await use(again.quotas, 10)
    assert (await known(other))["tokens_per_day"] == 0.6


async def test_a_redis_that_was_started_again_meanwhile_learns_it_all(
    place: Place, redis_server: RedisServer
) -> None:
    place.limits = KeyLimits(concurrent=1, tokens_per_day=100)
    one, other = await place.replica(), await place.replica()
    await use(one.quotas, 30)
    async with one.quotas.admitted("k"):
        # Without any request meanwhile.
        redis_server.kill()
        for replica in (one, other):
            await changed(replica.link, up=False)
        redis_server.start()
        for replica in (one, other):
            await changed(replica.link, up=True)
        await until(lambda: knows(other, {"tokens_per_day": 0.3}))
        assert await refused(other) == "KEY_REQUESTS_AT_ONCE"


@pytest.mark.parametrize("noticed_by", ["a call", "the regular check"])
async def test_a_redis_that_has_lost_everything_unnoticed_learns_it_again(
    place: Place,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    noticed_by: str,
) -> None:
    place.limits = KeyLimits(concurrent=1, tokens_per_day=100)
    if noticed_by == "the regular check":
        monkeypatch.setattr(redis_counts, "RENEW_SECONDS", 0.0)
    one, other = await place.replica(), await place.replica()
    await use(one.quotas, 30)
    async with one.quotas.admitted("k"):
        redis_server.command("FLUSHALL")
        if noticed_by == "a call":
            await use(one.quotas, caller="another")
        await until(lambda: knows(other, {"tokens_per_day": 0.3}))
        assert await refused(other) == "KEY_REQUESTS_AT_ONCE"


async def test_servers_of_one_folder_are_counted_once(place: Place, tmp_path: Path) -> None:
    place.limits = BUDGET
    file = tmp_path / "shared" / USAGE_FILE
    one, other, third = await place.replica(file), await place.replica(file), await place.replica()
    await use(one.quotas, 30)
    await use(other.quotas, 20)
    await use(one.quotas, 10)
    for replica in (one, other, third):
        assert (await known(replica))["tokens_per_day"] == 0.6


async def test_what_ends_last_is_told_before_a_server_ends(place: Place) -> None:
    place.limits = BUDGET
    one, other = await place.replica(), await place.replica()
    one.quotas.charge("k", 5.0)
    await one.counting.aclose()
    assert (await known(other))["usd_per_month"] == 0.1


async def test_a_lost_file_of_what_was_used_is_not_taken_for_the_old_one(
    place: Place, tmp_path: Path
) -> None:
    place.limits = BUDGET
    file = tmp_path / "one" / USAGE_FILE
    one, other = await place.replica(file), await place.replica()
    await use(one.quotas, 30)
    file.unlink()
    await use(one.quotas, 20)
    assert (await known(other))["tokens_per_day"] == 0.5


async def test_redis_that_stores_no_more_is_as_good_as_none(
    place: Place, redis_server: RedisServer
) -> None:
    place.limits = KeyLimits(concurrent=1, tokens_per_day=100)
    one = await place.replica()
    redis_server.command("CONFIG", "SET", "maxmemory", "1")
    async with one.quotas.admitted("k") as meter:
        assert await refused(one) == "KEY_REQUESTS_AT_ONCE"
        meter.tokens = 10
    redis_server.command("CONFIG", "SET", "maxmemory", "0")
    await use(one.quotas, 10)
    assert await known(one) == {"tokens_per_day": 0.2}
