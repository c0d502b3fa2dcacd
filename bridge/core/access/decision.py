"""Whether a request of a key is over a limit, and what is left of the limits. Pure."""

from __future__ import annotations

from typing import Final

from bridge.core.access.budgets import TOKENS_PER_DAY, exhausted
from bridge.core.access.counts import Use
from bridge.core.access.keys import KeyLimits
from bridge.core.contract import Allowance, Allowances, RateLimitedError

AT_ONCE_RETRY_SECONDS: Final = 1.0
"""Used for concurrent requests: it is unknown when one of them ends."""


def refusal(limits: KeyLimits, use: Use, now: float) -> RateLimitedError | None:
    """Return why one more request is refused, or None if it is admitted.

    `now` is in Unix seconds. If several limits are reached, the one that holds longest is reported,
    so that a retry after `retry_after` is not refused by another.
    """
    found: list[RateLimitedError] = []
    if limits.concurrent is not None and use.running >= limits.concurrent:
        found.append(
            RateLimitedError(
                f"This key already has {limits.concurrent} concurrent requests, its limit.",
                reason="KEY_REQUESTS_AT_ONCE",
                retry_after=AT_ONCE_RETRY_SECONDS,
            )
        )
    if limits.per_minute is not None and use.minute.requests >= limits.per_minute:
        found.append(
            RateLimitedError(
                f"This key has reached its limit of {limits.per_minute} requests per minute.",
                reason="KEY_REQUESTS_PER_MINUTE",
                retry_after=use.minute.next_in,
            )
        )
    if not limits.shadow:
        found += exhausted(limits, use.spent, now)
    return max(found, key=lambda error: error.retry_after or 0.0, default=None)


def allowances(limits: KeyLimits, use: Use, now: float) -> Allowances:
    """Return what is left of the limits that are counted over time; see `refusal`."""
    requests, tokens = None, None
    if limits.per_minute is not None:
        left = max(limits.per_minute - use.minute.requests, 0)
        requests = Allowance(limits.per_minute, left, now + use.minute.all_in)
    if limits.tokens_per_day is not None and not limits.shadow:
        left = max(limits.tokens_per_day - use.spent.tokens_per_day, 0)
        tokens = Allowance(limits.tokens_per_day, left, now + TOKENS_PER_DAY.seconds_left(now))
    return Allowances(requests, tokens)
