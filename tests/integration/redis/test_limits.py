"""The limits of keys, wherever requests are counted: in memory, with a file, and in Redis."""

from __future__ import annotations

import asyncio
import logging
import random
from calendar import timegm
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.core.access.budgets import BUDGETS, DAY, Budget
from bridge.core.access.keys import KeyLimits
from bridge.core.access.quotas import Quotas
from bridge.core.access.redis_counts import READING_SECONDS
from bridge.core.contract import Allowance, Allowances, RateLimitedError
from tests.support.harness import SCALE
from tests.support.quota_places import Place, use
from tests.support.redis_server import RedisServer

NOON = float(timegm((2026, 12, 30, 12, 0, 0)))


@pytest.fixture(params=["memory", "file", "redis"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        place = Place(request.param, tmp_path, NOON, stack)
        if place.kind == "redis":
            redis = stack.enter_context(_redis(tmp_path / "redis"))
            place.use(redis, redis.documented_user())
        yield place


def _redis(folder: Path) -> AbstractContextManager[RedisServer]:
    server = RedisServer(folder)
    server.start()
    return closing(server)


async def refused(quotas: Quotas, caller: str = "k") -> RateLimitedError:
    with pytest.raises(RateLimitedError) as raised:
        await use(quotas, caller=caller)
    return raised.value


async def test_what_is_left_of_a_keys_limits(place: Place) -> None:
    quotas = await place.server(KeyLimits(concurrent=9, per_minute=3, tokens_per_day=100))
    midnight = NOON + DAY / 2

    left = await quotas.allowances("k")
    assert left == Allowances(Allowance(3, 3, NOON), Allowance(100, 100, midnight))
    await use(quotas, 70)
    place.pass_(20)
    await use(quotas, 70)
    left = await quotas.allowances("k")
    assert left.requests is not None
    assert (left.requests.limit, left.requests.remaining) == (3, 1)
    # Redis's own clock has moved, too.
    assert left.requests.resets_at == pytest.approx(place.clocks.time + 60, abs=5)
    assert left.tokens == Allowance(100, 0, midnight)
    place.pass_(DAY)
    assert await quotas.allowances("k") == Allowances(
        Allowance(3, 3, place.clocks.time), Allowance(100, 100, midnight + DAY)
    )
    place.limits = KeyLimits(concurrent=9)
    assert await quotas.allowances("k") == Allowances()


async def test_requests_at_once_are_counted_until_they_end_however_they_do(place: Place) -> None:
    quotas = await place.server(KeyLimits(concurrent=2))
    other = await place.server()
    for fault in (RuntimeError, GeneratorExit, asyncio.CancelledError):
        with pytest.raises(fault):
            async with quotas.admitted("k"):
                raise fault
    async with quotas.admitted("k"), other.admitted("k"):
        error = await refused(quotas)
        assert (error.reason, error.retry_after, error.retryable) == (
            "KEY_REQUESTS_AT_ONCE",
            1.0,
            True,
        )
        assert "2 concurrent requests" in error.message
        await refused(other)
        await use(quotas, caller="another")
    await use(quotas)
    await use(other)


async def test_requests_a_minute_come_back_one_by_one(place: Place) -> None:
    quotas = await place.server(KeyLimits(per_minute=2))
    other = await place.server()
    await use(quotas)
    place.pass_(20)
    await use(other)
    place.pass_(10)
    error = await refused(quotas)
    assert error.reason == "KEY_REQUESTS_PER_MINUTE"
    assert error.retry_after == pytest.approx(30, abs=5)
    # A refused request does not count.
    place.pass_(30)
    await use(quotas)
    assert (await refused(other)).retry_after == pytest.approx(20, abs=5)


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.name)
async def test_a_budget_that_is_used_up_refuses_until_its_reset(
    place: Place, budget: Budget
) -> None:
    quotas = await place.server(KeyLimits(**{budget.name: 10}))  # type: ignore[arg-type]
    await use(quotas, 9, 9.0)
    # More than is left: an admitted request is answered to its end.
    await use(quotas, 4, 4.0)
    error = await refused(quotas)
    assert error.reason == f"KEY_{budget.name.upper()}"
    assert error.retry_after == budget.seconds_left(place.clocks.time)
    assert not error.retryable
    assert "13" in error.message
    await use(quotas, caller="another")
    place.pass_(budget.seconds_left(place.clocks.time) - 1)
    await refused(quotas)
    place.pass_(1)
    await use(quotas, 9, 9.0)
    await use(quotas)


async def test_a_new_day_leaves_what_the_month_has_used(place: Place) -> None:
    quotas = await place.server(KeyLimits(usd_per_day=5, usd_per_month=8))
    await use(quotas, usd=4.0)
    place.pass_(DAY)
    await use(quotas, usd=2.0)
    assert quotas.budget_shares("k") == {"usd_per_day": 0.4, "usd_per_month": 0.75}


async def test_in_shadow_it_counts_and_refuses_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    quotas = await place.server(KeyLimits(usd_per_day=1, tokens_per_day=10, shadow=True))
    await use(quotas, 50, 5.0)
    await use(quotas, 50, 5.0)
    assert quotas.budget_shares("k") == {"usd_per_day": 10.0, "tokens_per_day": 10.0}
    assert (await quotas.allowances("k")).tokens is None
    assert "nothing is refused (shadow)" in caplog.text


async def test_the_log_warns_once_when_most_is_used_and_once_when_all_is(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    quotas = await place.server(KeyLimits(usd_per_day=10, warn_at=50))
    said = []
    for _ in range(2):
        for usd in (4.0, 2.0, 3.0, 1.0):
            caplog.clear()
            await use(quotas, usd=usd)
            said.append([record.getMessage() for record in caplog.records])
        place.pass_(DAY)
    assert said == 2 * [
        [],
        ["key k has used 60% of its usd_per_day: $6.00"],
        [],
        ["key k has used 100% of its usd_per_day: $10.00"],
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


@dataclass
class Watch:
    """Whether requests were admitted and refused as they should have been."""

    began: list[tuple[float, int]] = field(default_factory=list)
    """Times and changes of the number of requests that were possibly counted as running."""
    running: int = 0
    most: int = 0
    """The most requests that ran at a time, by what their callers saw."""
    admitted: int = 0
    tokens: int = 0
    refusals: list[tuple[float, float, str]] = field(default_factory=list)

    def most_possible(self, begin: float, end: float) -> int:
        """The most requests that may have been counted as running at a time within a span."""
        count, most = 0, 0
        for at, change in sorted(self.began):
            if at > end:
                break
            # What ended before the span does not count in it, what lasts until its begin does.
            if at >= begin:
                most = max(most, count)
            count += change
        return max(most, count)


async def _request(quotas: Quotas, watch: Watch, chance: random.Random, caller: str) -> None:
    clock = asyncio.get_running_loop().time
    asked, tokens = clock(), chance.randrange(5)
    try:
        async with quotas.admitted(caller) as meter:
            watch.admitted += 1
            watch.running += 1
            watch.most = max(watch.most, watch.running)
            await asyncio.sleep(chance.random() * 0.01)
            meter.tokens = tokens
            watch.tokens += tokens
            watch.running -= 1
    except RateLimitedError as error:
        watch.refusals.append((asked, clock(), error.reason))
    else:
        watch.began += [(asked, 1), (clock(), -1)]


async def _client(servers: Sequence[Quotas], watch: Watch, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(12):
        await _request(chance.choice(servers), watch, chance, "k")
        await asyncio.sleep(chance.random() * 0.005)


@pytest.mark.parametrize("seed", range(3 * SCALE))
async def test_over_all_servers_no_limit_is_exceeded_and_nothing_refused_below_it(
    place: Place, seed: int
) -> None:
    chance = random.Random(seed)
    limits = KeyLimits(
        concurrent=chance.randint(1, 6),
        per_minute=chance.randint(20, 90),
        tokens_per_month=chance.randint(60, 300),
    )
    assert limits.concurrent is not None
    assert limits.per_minute is not None
    assert limits.tokens_per_month is not None
    servers = [await place.server(limits) for _ in range(3)]
    watch = Watch()

    await asyncio.gather(*(_client(servers, watch, chance.randrange(1 << 30)) for _ in range(8)))

    assert watch.most <= limits.concurrent
    for begin, end, reason in watch.refusals:
        if reason == "KEY_REQUESTS_AT_ONCE":
            assert watch.most_possible(begin, end) >= limits.concurrent
    # One after the other, it goes on exactly to the limit.
    while watch.refusals[-1:] == [] or watch.refusals[-1][2] == "KEY_REQUESTS_AT_ONCE":
        await _request(chance.choice(servers), watch, chance, "k")
    over_minute = watch.admitted >= limits.per_minute
    over_budget = watch.tokens >= limits.tokens_per_month
    assert watch.admitted <= limits.per_minute
    assert over_minute or over_budget
    assert (await refused(servers[0])).reason == (
        "KEY_TOKENS_PER_MONTH" if over_budget else "KEY_REQUESTS_PER_MINUTE"
    )
    # The last ones may exceed a budget, as many as may run at a time.
    assert watch.tokens < limits.tokens_per_month + 5 * limits.concurrent
    place.pass_(READING_SECONDS)
    await asyncio.gather(*(server.allowances("k") for server in servers))
    for server in servers:
        share = server.budget_shares("k")["tokens_per_month"]
        assert share * limits.tokens_per_month == pytest.approx(watch.tokens)
