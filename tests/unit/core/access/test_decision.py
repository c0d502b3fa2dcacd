"""Whether a request is over a limit of its key, and what is left of the limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.access.budgets import DAY, Spent
from bridge.core.access.counts import MINUTE, Use, minute_of
from bridge.core.access.decision import allowances, refusal
from bridge.core.access.keys import KeyLimits

MIDNIGHT = 1_700_006_400.0
"""The start of a UTC day."""


@dataclass(frozen=True)
class Past:
    """What a key has begun and spent; the last request begins now."""

    running: int
    begun: tuple[float, ...]
    spent: Spent

    @property
    def now(self) -> float:
        return self.begun[-1] if self.begun else 0.0

    def use(self, limits: KeyLimits, now: float) -> Use:
        return Use(self.running, minute_of(self.begun, now, limits.per_minute or 1), self.spent)


counts = st.none() | st.integers(1, 6)
limits = st.builds(KeyLimits, counts, counts, st.none() | st.integers(1, 300))
times = st.lists(st.floats(0, 200), max_size=12).map(lambda begun: tuple(sorted(begun)))
pasts = st.builds(Past, st.integers(0, 8), times, st.builds(Spent, st.integers(0, 400)))


def over(limits: KeyLimits, past: Past) -> set[str]:
    """Return the limits that one more request would exceed, computed the slow way."""
    found = set()
    if limits.concurrent is not None and past.running + 1 > limits.concurrent:
        found.add("KEY_REQUESTS_AT_ONCE")
    recent = [begun for begun in past.begun if begun > past.now - MINUTE]
    if limits.per_minute is not None and len(recent) + 1 > limits.per_minute:
        found.add("KEY_REQUESTS_PER_MINUTE")
    if limits.tokens_per_day is not None and past.spent.tokens_per_day >= limits.tokens_per_day:
        found.add("KEY_TOKENS_PER_DAY")
    return found


@given(limits, pasts, st.integers(1, int(DAY)))
def test_a_request_is_refused_exactly_when_it_is_over_a_limit(
    limits: KeyLimits, past: Past, until_midnight: int
) -> None:
    error = refusal(limits, past.use(limits, past.now), MIDNIGHT + DAY - until_midnight)
    expected = over(limits, past)
    assert (error is not None) is bool(expected)
    assert error is None or error.reason in expected


@given(limits, pasts, st.integers(1, int(DAY)))
def test_a_retry_after_the_given_time_is_neither_too_early_nor_too_late(
    limits: KeyLimits, past: Past, until_midnight: int
) -> None:
    error = refusal(limits, past.use(limits, past.now), MIDNIGHT + DAY - until_midnight)
    if error is None:
        return
    wait = error.retry_after
    assert wait is not None
    # A hair more: floats round.
    then = past.now + wait + 1e-6
    spent = Spent() if wait >= until_midnight else past.spent
    later = replace(past, running=0, spent=spent)
    assert refusal(limits, later.use(limits, then), MIDNIGHT) is None
    if error.reason == "KEY_REQUESTS_PER_MINUTE" and wait > 1e-3:
        sooner = refusal(limits, later.use(limits, then - 1e-3), MIDNIGHT)
        assert sooner is not None
        assert sooner.reason == error.reason


@given(limits, pasts, st.integers(1, int(DAY)))
def test_a_request_is_refused_exactly_when_nothing_is_left(
    limits: KeyLimits, past: Past, until_midnight: int
) -> None:
    at = MIDNIGHT + DAY - until_midnight
    left = allowances(limits, past.use(limits, past.now), at)
    found = {
        "KEY_REQUESTS_PER_MINUTE": left.requests,
        "KEY_TOKENS_PER_DAY": left.tokens,
    }
    used_up = {
        reason for reason, allowance in found.items() if allowance and not allowance.remaining
    }

    assert used_up == over(limits, past) - {"KEY_REQUESTS_AT_ONCE"}
    # Once all of it is back, the same use leaves as much as none.
    for allowance in (left.requests, left.tokens):
        assert allowance is None or 0 <= allowance.remaining <= allowance.limit
        assert allowance is None or at <= allowance.resets_at <= at + DAY + 1e-6
    if left.requests is not None:
        later = past.now + left.requests.resets_at - at + 1e-5
        again = allowances(limits, past.use(limits, later), at).requests
        assert again is not None
        assert again.remaining == again.limit
