from __future__ import annotations

import json
import logging
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.access.budgets import DAY, Spent
from bridge.core.access.keys import KeyLimits
from bridge.core.access.quotas import MINUTE, Quotas, Use, allowances, refusal
from bridge.core.contract.errors import AuthenticationError, RateLimitedError
from bridge.core.contract.service import Allowance, Allowances
from tests.support.harness import SCALE

MIDNIGHT = 1_700_006_400.0
"""The start of a UTC day."""

counts = st.none() | st.integers(1, 6)
limits = st.builds(KeyLimits, counts, counts, st.none() | st.integers(1, 300))
times = st.lists(st.floats(0, 200), max_size=12).map(lambda begun: tuple(sorted(begun)))
uses = st.builds(Use, st.integers(0, 8), times, st.builds(Spent, st.integers(0, 400)))


def over(limits: KeyLimits, use: Use, now: float) -> set[str]:
    """Return the limits that one more request would exceed, computed the slow way."""
    found = set()
    if limits.concurrent is not None and use.running + 1 > limits.concurrent:
        found.add("KEY_REQUESTS_AT_ONCE")
    recent = [begun for begun in use.begun if begun > now - MINUTE]
    if limits.per_minute is not None and len(recent) + 1 > limits.per_minute:
        found.add("KEY_REQUESTS_PER_MINUTE")
    if limits.tokens_per_day is not None and use.spent.tokens_per_day >= limits.tokens_per_day:
        found.add("KEY_TOKENS_PER_DAY")
    return found


@given(limits, uses, st.integers(1, int(DAY)))
def test_a_request_is_refused_exactly_when_it_is_over_a_limit(
    limits: KeyLimits, use: Use, until_midnight: int
) -> None:
    now = use.begun[-1] if use.begun else 0.0
    error = refusal(limits, use, now, MIDNIGHT + DAY - until_midnight)
    expected = over(limits, use, now)
    assert (error is not None) is bool(expected)
    assert error is None or error.reason in expected


@given(limits, uses, st.integers(1, int(DAY)))
def test_a_retry_after_the_given_time_is_neither_too_early_nor_too_late(
    limits: KeyLimits, use: Use, until_midnight: int
) -> None:
    now = use.begun[-1] if use.begun else 0.0
    error = refusal(limits, use, now, MIDNIGHT + DAY - until_midnight)
    if error is None:
        return
    wait = error.retry_after
    assert wait is not None
    # A hair more: floats round.
    then = now + wait + 1e-6
    spent = Spent() if wait >= until_midnight else use.spent
    later = Use(0, use.begun, spent)
    assert refusal(limits, later, then, MIDNIGHT) is None
    if error.reason == "KEY_REQUESTS_PER_MINUTE" and wait > 1e-3:
        sooner = refusal(limits, later, then - 1e-3, MIDNIGHT)
        assert sooner is not None
        assert sooner.reason == error.reason


class Clocks:
    def __init__(self) -> None:
        self.now = 1000.0
        self.time = MIDNIGHT + 3600

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.time += seconds

    def quotas(self, limits: KeyLimits, file: Path | None = None) -> Quotas:
        return Quotas(lambda caller: limits, file, clock=lambda: self.now, now=lambda: self.time)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def spend(quotas: Quotas, tokens: int = 0, caller: str = "k") -> None:
    with quotas.admitted(caller) as meter:
        meter.tokens = tokens


def tokens_today(quotas: Quotas) -> int:
    left = quotas.allowances("k").tokens
    assert left is not None
    return left.limit - left.remaining


def refused(quotas: Quotas, caller: str = "k") -> RateLimitedError:
    with pytest.raises(RateLimitedError) as raised:
        spend(quotas, caller=caller)
    return raised.value


@given(limits, uses, st.integers(1, int(DAY)))
def test_a_request_is_refused_exactly_when_nothing_is_left(
    limits: KeyLimits, use: Use, until_midnight: int
) -> None:
    now = use.begun[-1] if use.begun else 0.0
    at = MIDNIGHT + DAY - until_midnight
    left = allowances(limits, use, now, at)
    found = {
        "KEY_REQUESTS_PER_MINUTE": left.requests,
        "KEY_TOKENS_PER_DAY": left.tokens,
    }
    used_up = {
        reason for reason, allowance in found.items() if allowance and not allowance.remaining
    }

    assert used_up == over(limits, use, now) - {"KEY_REQUESTS_AT_ONCE"}
    # Once all of it is back, the same use leaves as much as none.
    for allowance in (left.requests, left.tokens):
        assert allowance is None or 0 <= allowance.remaining <= allowance.limit
        assert allowance is None or at <= allowance.resets_at <= at + DAY + 1e-6
    if left.requests is not None:
        later = now + left.requests.resets_at - at + 1e-5
        again = allowances(limits, use, later, at).requests
        assert again is not None
        assert again.remaining == again.limit


def test_nothing_is_left_to_show_for_a_key_that_is_revoked_while_it_is_answered() -> None:
    def limits_of(caller: str) -> KeyLimits:
        raise AuthenticationError("This API key has been revoked.")

    assert Quotas(limits_of).allowances("k") == Allowances()


def test_what_is_left_of_a_keys_limits(clocks: Clocks) -> None:
    quotas = clocks.quotas(KeyLimits(concurrent=9, per_minute=3, tokens_per_day=100))
    midnight = MIDNIGHT + DAY

    assert quotas.allowances("k") == Allowances(
        Allowance(3, 3, clocks.time), Allowance(100, 100, midnight)
    )
    spend(quotas, 70)
    clocks.pass_(20)
    spend(quotas, 70)
    assert quotas.allowances("k") == Allowances(
        Allowance(3, 1, clocks.time + 60), Allowance(100, 0, midnight)
    )
    clocks.pass_(DAY)
    assert quotas.allowances("k") == Allowances(
        Allowance(3, 3, clocks.time), Allowance(100, 100, midnight + DAY)
    )
    assert clocks.quotas(KeyLimits(concurrent=9)).allowances("k") == Allowances()


def test_requests_at_once_are_counted_until_they_end_however_they_do(clocks: Clocks) -> None:
    quotas = clocks.quotas(KeyLimits(concurrent=2))
    for fault in (RuntimeError, GeneratorExit, KeyboardInterrupt):
        with pytest.raises(fault), quotas.admitted("k"):
            raise fault
    with ExitStack() as running:
        running.enter_context(quotas.admitted("k"))
        running.enter_context(quotas.admitted("k"))
        error = refused(quotas)
        assert (error.reason, error.retry_after, error.retryable) == (
            "KEY_REQUESTS_AT_ONCE",
            1.0,
            True,
        )
        assert "2 concurrent requests" in error.message
        spend(quotas, caller="another")
    spend(quotas)


def test_requests_a_minute_come_back_one_by_one(clocks: Clocks) -> None:
    quotas = clocks.quotas(KeyLimits(per_minute=2))
    spend(quotas)
    clocks.pass_(20)
    spend(quotas)
    clocks.pass_(10)
    error = refused(quotas)
    assert (error.reason, error.retry_after) == ("KEY_REQUESTS_PER_MINUTE", 30.0)
    # A refused request does not count.
    clocks.pass_(30)
    spend(quotas)
    assert refused(quotas).retry_after == 20.0


def test_tokens_are_counted_to_midnight(clocks: Clocks) -> None:
    quotas = clocks.quotas(KeyLimits(tokens_per_day=100))
    spend(quotas, 99)
    spend(quotas, 50)
    error = refused(quotas)
    assert error.reason == "KEY_TOKENS_PER_DAY"
    assert error.retry_after == DAY - 3600
    assert not error.retryable
    assert "149" in error.message
    spend(quotas, caller="another")
    clocks.pass_(DAY - 3600)
    spend(quotas)


def test_tokens_are_kept_over_a_restart_and_shared_with_other_servers(
    clocks: Clocks, tmp_path: Path
) -> None:
    file = tmp_path / "state" / "usage.json"
    limits = KeyLimits(tokens_per_day=100)
    one, other = clocks.quotas(limits, file), clocks.quotas(limits, file)
    spend(one, 60)
    spend(other, 30)
    spend(one, 10)
    assert tokens_today(clocks.quotas(limits, file)) == 100
    refused(clocks.quotas(limits, file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {
        "day": "2023-11-15",
        "month": "2023-11",
        "tokens": {"k": 100},
        "tokens_per_month": {"k": 100},
        "usd_per_day": {},
        "usd_per_month": {},
    }
    clocks.pass_(DAY)
    assert tokens_today(clocks.quotas(limits, file)) == 0
    spend(one, 5)
    assert json.loads(file.read_text())["tokens"] == {"k": 5}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"day": "2023-11-15", "tokens": {"k": "x"}}',
        '{"day": "2023-11-15", "tokens": {"k": 1e999}}',
    ],
)
def test_a_broken_file_costs_the_count_and_not_the_answer(
    clocks: Clocks, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "usage.json"
    file.write_text(text)
    quotas = clocks.quotas(KeyLimits(tokens_per_day=100), file)
    spend(quotas, 100)
    refused(quotas)


def test_usage_that_cannot_be_stored_still_counts_and_is_reported_once(
    clocks: Clocks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    quotas = clocks.quotas(KeyLimits(tokens_per_day=100), tmp_path / "file" / "usage.json")
    spend(quotas, 40)
    spend(quotas, 40)
    spend(quotas, 40)
    refused(quotas)
    assert sum("cannot be stored" in r.getMessage() for r in caplog.records) == 1
    assert all(r.levelno <= logging.WARNING for r in caplog.records)


def test_without_limits_nothing_is_kept(clocks: Clocks, tmp_path: Path) -> None:
    file = tmp_path / "usage.json"
    quotas = clocks.quotas(KeyLimits(models=("opus",)), file)
    for _ in range(50 * SCALE):
        spend(quotas, 10)
    assert not file.exists()
