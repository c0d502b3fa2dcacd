"""Budgets in tokens and dollars, a day and a month: used up, warned of, in shadow, and reset."""

from __future__ import annotations

import logging
import time
from calendar import timegm
from pathlib import Path

import pytest

from bridge.core.access.budgets import BUDGETS, Budget, Spent, exhausted
from bridge.core.access.keys import KeyLimits
from bridge.core.access.local_counts import LocalCounts
from bridge.core.access.quotas import Quotas
from bridge.core.access.spending import USAGE_FILE
from bridge.core.contract import AuthenticationError, RateLimitedError

NOON = float(timegm((2026, 12, 30, 12, 0, 0)))
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.time = NOON

    def quotas(self, limits: KeyLimits, file: Path | None = None) -> Quotas:
        counts = LocalCounts(file, now=lambda: self.time)
        return Quotas(lambda caller: limits, counts, now=lambda: self.time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def use(quotas: Quotas, tokens: int = 0, usd: float = 0.0) -> None:
    async with quotas.admitted("k") as meter:
        meter.tokens = tokens
    quotas.charge("k", usd)


@pytest.mark.parametrize(
    ("now", "resets"),
    [
        ((2026, 12, 30, 12, 0, 0), (2027, 1, 1, 0, 0, 0)),
        ((2026, 11, 30, 23, 59, 59), (2026, 12, 1, 0, 0, 0)),
        ((2028, 2, 1, 0, 0, 0), (2028, 3, 1, 0, 0, 0)),
    ],
)
def test_a_month_ends_where_the_next_one_starts(
    now: tuple[int, ...], resets: tuple[int, ...]
) -> None:
    at = timegm(now)
    assert Budget("usd_per_month").seconds_left(at) == timegm(resets) - at
    assert Budget("usd_per_day").seconds_left(at) <= DAY


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.name)
@pytest.mark.parametrize("kept", [True, False])
async def test_a_budget_that_is_used_up_refuses_until_its_reset(
    clock: Clock, tmp_path: Path, budget: Budget, *, kept: bool
) -> None:
    limits = KeyLimits(**{budget.name: 10})  # type: ignore[arg-type]
    quotas = clock.quotas(limits, tmp_path / USAGE_FILE if kept else None)
    await use(quotas, 9, 9.0)
    await use(quotas, 1, 1.0)
    with pytest.raises(RateLimitedError) as raised:
        await use(quotas)
    error = raised.value
    assert error.reason == f"KEY_{budget.name.upper()}"
    assert error.retry_after == budget.seconds_left(clock.time)
    assert not error.retryable
    clock.time += budget.seconds_left(clock.time) - 1
    with pytest.raises(RateLimitedError):
        await use(quotas)
    clock.time += 1
    await use(quotas, 9, 9.0)
    await use(quotas)


def test_the_words_name_the_limit_the_use_and_the_reset() -> None:
    limits = KeyLimits(tokens_per_day=5, usd_per_month=2.5)
    day, month = exhausted(limits, Spent(tokens_per_day=7, usd_per_month=2.504), NOON)
    assert day.message == (
        "This key has reached its limit of 5 tokens per day (7 used). "
        "The limit resets at midnight UTC."
    )
    assert month.message == (
        "This key has reached its limit of $2.50 per month ($2.50 used). "
        "The limit resets on 2027-01-01 at midnight UTC."
    )


async def test_a_new_day_leaves_what_the_month_has_used(clock: Clock, tmp_path: Path) -> None:
    for file in (tmp_path / USAGE_FILE, None):
        clock.time = NOON
        quotas = clock.quotas(KeyLimits(usd_per_day=5, usd_per_month=8), file)
        await use(quotas, usd=4.0)
        clock.time += DAY
        await use(quotas, usd=2.0)
        assert quotas.budget_shares("k") == {"usd_per_day": 0.4, "usd_per_month": 0.75}


async def test_in_shadow_it_counts_and_refuses_nothing(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    quotas = clock.quotas(KeyLimits(usd_per_day=1, tokens_per_day=10, shadow=True))
    await use(quotas, 50, 5.0)
    await use(quotas, 50, 5.0)
    assert quotas.budget_shares("k") == {"usd_per_day": 10.0, "tokens_per_day": 10.0}
    assert (await quotas.allowances("k")).tokens is None
    assert "nothing is refused (shadow)" in caplog.text


async def test_the_log_warns_once_when_most_is_used_and_once_when_all_is(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    quotas = clock.quotas(KeyLimits(usd_per_day=10, warn_at=50))
    said = []
    for _ in range(2):
        for usd in (4.0, 2.0, 3.0, 1.0):
            caplog.clear()
            await use(quotas, usd=usd)
            said.append([record.getMessage() for record in caplog.records])
        clock.time += DAY
    assert said == 2 * [
        [],
        ["key k has used 60% of its usd_per_day: $6.00"],
        [],
        ["key k has used 100% of its usd_per_day: $10.00"],
    ]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_what_a_key_costs_after_its_revocation_is_no_error() -> None:
    def limits_of(caller: str) -> KeyLimits:
        raise AuthenticationError("revoked")

    Quotas(limits_of, now=time.time).charge("k", 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens_per_month": 0},
        {"usd_per_day": 0.0},
        {"usd_per_day": float("nan")},
        {"usd_per_month": float("inf")},
        {"usd_per_month": True},
        {"warn_at": 0},
        {"warn_at": 101},
        {"shadow": 1},
    ],
)
def test_a_wrong_limit_is_refused_by_its_name(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        KeyLimits(**wrong)  # type: ignore[arg-type]
