"""Holds each request to the limits of its key: concurrent requests, requests per minute, budgets.

Days and months are in UTC. An admitted request is answered to its end, and its cost is known later,
so the last ones of a day can exceed a budget by what they use.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bridge.core.access.budgets import BUDGETS, shares
from bridge.core.access.counts import Counts, are_counted
from bridge.core.access.decision import allowances
from bridge.core.access.keys import KeyLimits
from bridge.core.access.local_counts import LocalCounts
from bridge.core.contract import Allowances, AuthenticationError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Meter:
    """The tokens that an admitted request has used so far."""

    tokens: int = 0


class Quotas:
    """Holds the requests of each key to its limits, by what `counts` counts."""

    def __init__(
        self,
        limits_of: Callable[[str], KeyLimits] = lambda caller: KeyLimits(),
        counts: Counts | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Count in memory by default; `now` returns Unix seconds."""
        self.limits_of = limits_of
        self.counts = counts or LocalCounts(now=now)
        self._now = now
        self._warned: dict[tuple[str, str], tuple[str, float]] = {}
        """By key and budget: the period and the share that was logged last."""

    @asynccontextmanager
    async def admitted(self, caller: str) -> AsyncIterator[Meter]:
        """Count a request from its admission to its end; raises RateLimitedError.

        The meter's final value is added to the key's tokens.
        """
        limits = self.limits_of(caller)
        meter = Meter()
        if not are_counted(limits):
            yield meter
            return
        id = await self.counts.admit(caller, limits)
        try:
            yield meter
        finally:
            tokens = meter.tokens if limits.has_budget("tokens") else 0
            await self.counts.finish(caller, id, tokens)
            if tokens:
                self._warn(caller, limits)

    def charge(self, caller: str, usd: float) -> None:
        """Count what a request cost, in US dollars at list price, once that is known."""
        try:
            limits = self.limits_of(caller)
        except AuthenticationError:
            # The key has been revoked meanwhile.
            return
        if usd and limits.has_budget("usd"):
            self.counts.charge(caller, usd)
            self._warn(caller, limits)

    async def allowances(self, caller: str) -> Allowances:
        """Return what a key may use now; nothing is known of one that is no longer valid."""
        try:
            limits = self.limits_of(caller)
        except AuthenticationError:
            # Revoked while it was being answered.
            return Allowances()
        if not are_counted(limits):
            return Allowances()
        return allowances(limits, await self.counts.use(caller, limits), self._now())

    def budget_shares(self, caller: str) -> dict[str, float]:
        """Return the used share of each budget of a key, by the name of the budget."""
        return shares(self.limits_of(caller), self.counts.spent(caller))

    def all_budget_shares(self, keys: Iterable[str]) -> Iterator[tuple[str, str, float]]:
        """Yield each key with each of its budgets and the used share of it."""
        for key in list(keys):
            for budget, share in self.budget_shares(key).items():
                yield key, budget, share

    def _warn(self, caller: str, limits: KeyLimits) -> None:
        """Log, once in a day or month, that most of a budget is used, and that all of it is."""
        spent, now = self.counts.spent(caller), self._now()
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
