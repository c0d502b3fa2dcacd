"""A limit in dollars is reached in Redis, which counts whole nanodollars, when it is here."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.access.budgets import Spent, exhausted
from bridge.core.access.keys import KeyLimits
from bridge.core.access.redis_counts import _reached_at
from bridge.core.access.redis_script import NANODOLLARS


@given(st.floats(1e-9, 1e6), st.integers(-2, 2))
@example(0.1, 0)
@example(1 / 3, 0)
@example(8.2, 0)
def test_a_limit_in_dollars_is_reached_at_the_same_amount(usd: float, more: int) -> None:
    nano = max(round(usd * NANODOLLARS) + more, 0)
    reached_at = _reached_at(usd)
    assert reached_at is not None
    spent = Spent(usd_per_day=nano / NANODOLLARS)
    reached = bool(list(exhausted(KeyLimits(usd_per_day=usd), spent, 0.0)))
    assert (nano >= reached_at) is reached
