"""The budgets of a key: tokens and dollars, for each UTC day and month. Pure.

Dollars are list prices as Claude Code computes them, also where a subscription is not billed.
"""

from __future__ import annotations

import time
from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bridge.core.access.keys import KeyLimits
from bridge.core.contract import RateLimitedError

DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a key has used, in this UTC day and month."""

    tokens_per_day: int = 0
    tokens_per_month: int = 0
    usd_per_day: float = 0.0
    usd_per_month: float = 0.0

    def plus(self, other: Spent) -> Spent:
        """Return the sum."""
        return Spent(
            self.tokens_per_day + other.tokens_per_day,
            self.tokens_per_month + other.tokens_per_month,
            self.usd_per_day + other.usd_per_day,
            self.usd_per_month + other.usd_per_month,
        )

    def minus(self, other: Spent) -> Spent:
        """Return what is more than `other`."""
        return Spent(
            max(self.tokens_per_day - other.tokens_per_day, 0),
            max(self.tokens_per_month - other.tokens_per_month, 0),
            max(self.usd_per_day - other.usd_per_day, 0.0),
            max(self.usd_per_month - other.usd_per_month, 0.0),
        )

    def of(self, *, day: bool, month: bool) -> Spent:
        """Return only what was used in the day, or in the month."""
        return Spent(
            self.tokens_per_day if day else 0,
            self.tokens_per_month if month else 0,
            self.usd_per_day if day else 0.0,
            self.usd_per_month if month else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """One kind of budget."""

    name: str
    """Of its field in KeyLimits and in Spent."""

    @property
    def monthly(self) -> bool:
        """Whether it is for a month, not for a day."""
        return self.name.endswith("month")

    @property
    def dollars(self) -> bool:
        """Whether it is in US dollars, not in tokens."""
        return self.name.startswith("usd")

    def limit_in(self, limits: KeyLimits) -> float | None:
        """Return a key's limit; None if it has none."""
        limit: float | None = getattr(limits, self.name)
        return limit

    def used_in(self, spent: Spent) -> float:
        """Return how much of it a key has used."""
        used: float = getattr(spent, self.name)
        return used

    def shown(self, amount: float) -> str:
        """Return an amount as a user reads it."""
        return f"${amount:.2f}" if self.dollars else f"{amount:.0f} tokens"

    def period(self, now: float) -> str:
        """Return the day or the month, in UTC; `now` is in Unix seconds."""
        return time.strftime("%Y-%m" if self.monthly else "%Y-%m-%d", time.gmtime(now))

    def seconds_left(self, now: float) -> float:
        """Return the seconds until it is available again."""
        if not self.monthly:
            return DAY - now % DAY
        today = time.gmtime(now)
        year, month = divmod(today.tm_year * 12 + today.tm_mon, 12)
        return timegm((year, month + 1, 1, 0, 0, 0)) - now


TOKENS_PER_DAY: Final = Budget("tokens_per_day")
BUDGETS: Final = (
    TOKENS_PER_DAY,
    Budget("tokens_per_month"),
    Budget("usd_per_day"),
    Budget("usd_per_month"),
)


def periods(now: float) -> tuple[str, str]:
    """Return the day and the month, in UTC; `now` is in Unix seconds."""
    return BUDGETS[0].period(now), BUDGETS[1].period(now)


def exhausted(limits: KeyLimits, spent: Spent, now: float) -> Iterator[RateLimitedError]:
    """Yield an error for each budget that is used up, whether or not it is enforced."""
    for budget in BUDGETS:
        limit, used = budget.limit_in(limits), budget.used_in(spent)
        if limit is None or used < limit:
            continue
        seconds = budget.seconds_left(now)
        reset_on = time.strftime("%Y-%m-%d", time.gmtime(now + seconds))
        period, when = ("month", f"on {reset_on} at") if budget.monthly else ("day", "at")
        amount = budget.shown(used) if budget.dollars else f"{used:.0f}"
        yield RateLimitedError(
            f"This key has reached its limit of {budget.shown(limit)} per {period} "
            f"({amount} used). The limit resets {when} midnight UTC.",
            reason=f"KEY_{budget.name.upper()}",
            retry_after=seconds,
            retryable=False,
        )


def shares(limits: KeyLimits, spent: Spent) -> dict[str, float]:
    """Return the used share of each budget that a key has; more than 1 is over it."""
    return {
        budget.name: budget.used_in(spent) / limit
        for budget in BUDGETS
        if (limit := budget.limit_in(limits)) is not None
    }
