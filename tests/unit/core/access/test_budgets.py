"""Budgets in tokens and dollars, a day and a month: used up, warned of, in shadow, and reset."""

from __future__ import annotations

import time
from calendar import timegm

import pytest

from bridge.core.access.budgets import Budget, Spent, exhausted
from bridge.core.access.keys import KeyLimits
from bridge.core.access.quotas import Quotas
from bridge.core.contract import AuthenticationError

NOON = float(timegm((2026, 12, 30, 12, 0, 0)))
DAY = 86_400.0


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
