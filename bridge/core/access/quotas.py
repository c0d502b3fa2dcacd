"""The limits of each key and its use: concurrent requests, requests per minute, budgets.

Whether a request is over a limit is decided by one pure function; the rest counts.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bridge.core.access.budgets import BUDGETS, TOKENS_PER_DAY, Spent, exhausted, shares
from bridge.core.access.keys import KeyLimits
from bridge.core.access.spending import SpendingFile
from bridge.core.contract import Allowance, Allowances, AuthenticationError, RateLimitedError

logger = logging.getLogger(__name__)

MINUTE: Final = 60.0
AT_ONCE_RETRY_SECONDS: Final = 1.0
"""Used for concurrent requests: it is unknown when one of them ends."""


@dataclass(frozen=True, slots=True)
class Use:
    """The current use of a key."""

    running: int = 0
    """Requests admitted and not finished."""
    begun: tuple[float, ...] = ()
    """When its latest requests were admitted, in seconds of a monotonic clock, in order."""
    spent: Spent = Spent()  # noqa: RUF009 - frozen
    """What it has used of its budgets."""


def refusal(limits: KeyLimits, use: Use, now: float, unix_now: float) -> RateLimitedError | None:
    """Return why one more request is refused, or None if it is admitted.

    `now` is from the same clock as `use.begun`, `unix_now` in Unix seconds. If several limits are
    reached, the one that holds longest is reported, so that a retry after `retry_after` is not
    refused by another.
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
    if limits.per_minute is not None:
        recent = use.begun[bisect_right(use.begun, now - MINUTE) :]
        if len(recent) >= limits.per_minute:
            found.append(
                RateLimitedError(
                    f"This key has reached its limit of {limits.per_minute} requests per minute.",
                    reason="KEY_REQUESTS_PER_MINUTE",
                    retry_after=max(recent[-limits.per_minute] + MINUTE - now, 0.0),
                )
            )
    if not limits.shadow:
        found += exhausted(limits, use.spent, unix_now)
    return max(found, key=lambda error: error.retry_after or 0.0, default=None)


def allowances(limits: KeyLimits, use: Use, now: float, unix_now: float) -> Allowances:
    """Return what is left of the limits that are counted over time; see `refusal`."""
    requests, tokens = None, None
    if limits.per_minute is not None:
        recent = use.begun[bisect_right(use.begun, now - MINUTE) :]
        left = max(limits.per_minute - len(recent), 0)
        seconds = recent[-1] + MINUTE - now if recent else 0.0
        requests = Allowance(limits.per_minute, left, unix_now + seconds)
    if limits.tokens_per_day is not None and not limits.shadow:
        left = max(limits.tokens_per_day - use.spent.tokens_per_day, 0)
        resets_at = unix_now + TOKENS_PER_DAY.seconds_left(unix_now)
        tokens = Allowance(limits.tokens_per_day, left, resets_at)
    return Allowances(requests, tokens)


@dataclass(slots=True)
class Meter:
    """The tokens that an admitted request has used so far."""

    tokens: int = 0


@dataclass(slots=True)
class _Count:
    running: int = 0
    begun: list[float] = field(default_factory=list)


class Quotas:
    """Counts the use of each key; what it has used of its budgets survives a restart.

    Days and months are in UTC. An admitted request is answered to its end, and its cost is known
    later, so the last ones of a day can exceed a budget by what they use.
    """

    def __init__(
        self,
        limits_of: Callable[[str], KeyLimits] = lambda caller: KeyLimits(),
        file: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Store what is used of budgets in `file`; None keeps it in memory only."""
        self.limits_of = limits_of
        self._clock = clock
        self._now = now
        self._counts: dict[str, _Count] = {}
        self._spending = SpendingFile(file, now)
        self._warned: dict[tuple[str, str], tuple[str, float]] = {}
        """By key and budget: the period and the share that was logged last."""

    @contextmanager
    def admitted(self, caller: str) -> Iterator[Meter]:
        """Count a request from its admission to its end; raises RateLimitedError.

        The meter's final value is added to the key's tokens.
        """
        limits = self.limits_of(caller)
        meter = Meter()
        if limits == KeyLimits():
            yield meter
            return
        count = self._counts.setdefault(caller, _Count())
        now = self._clock()
        error = refusal(limits, self._use(caller), now, self._now())
        if error is not None:
            raise error
        del count.begun[: bisect_right(count.begun, now - MINUTE)]
        if limits.per_minute is not None:
            count.begun.append(now)
        count.running += 1
        try:
            yield meter
        finally:
            count.running -= 1
            if meter.tokens and limits.has_budget("tokens"):
                self._spending.add(caller, tokens=meter.tokens)
                self._warn(caller, limits)

    def charge(self, caller: str, usd: float) -> None:
        """Count what a request cost, in US dollars at list price, once that is known."""
        try:
            limits = self.limits_of(caller)
        except AuthenticationError:
            # The key has been revoked meanwhile.
            return
        if usd and limits.has_budget("usd"):
            self._spending.add(caller, usd=usd)
            self._warn(caller, limits)

    def allowances(self, caller: str) -> Allowances:
        """Return what a key may use now; nothing is known of one that is no longer valid."""
        try:
            limits = self.limits_of(caller)
        except AuthenticationError:
            # Revoked while it was being answered.
            return Allowances()
        if limits == KeyLimits():
            return Allowances()
        return allowances(limits, self._use(caller), self._clock(), self._now())

    def budget_shares(self, caller: str) -> dict[str, float]:
        """Return the used share of each budget of a key, by the name of the budget."""
        return shares(self.limits_of(caller), self._spending.of(caller))

    def all_budget_shares(self, keys: Iterable[str]) -> Iterator[tuple[str, str, float]]:
        """Yield each key with each of its budgets and the used share of it."""
        for key in list(keys):
            for budget, share in self.budget_shares(key).items():
                yield key, budget, share

    def _use(self, caller: str) -> Use:
        count = self._counts.get(caller, _Count())
        return Use(count.running, tuple(count.begun), self._spending.of(caller))

    def _warn(self, caller: str, limits: KeyLimits) -> None:
        """Log, once in a day or month, that most of a budget is used, and that all of it is."""
        spent, now = self._spending.of(caller), self._now()
        for budget in BUDGETS:
            share = shares(limits, spent).get(budget.name, 0.0)
            step = next((each for each in (1.0, limits.warn_at / 100) if share >= each), 0.0)
            period = budget.period(now)
            if not step or self._warned.get((caller, budget.name), ("", 0.0)) >= (period, step):
                continue
            self._warned[caller, budget.name] = (period, step)
            refuses = "; nothing is refused (shadow)" if limits.shadow else ""
            logger.warning(
                "key %s has used %d%% of its %s: %s%s",
                caller,
                int(share * 100),
                budget.name,
                budget.shown(budget.used_in(spent)),
                refuses if step == 1.0 else "",
            )
