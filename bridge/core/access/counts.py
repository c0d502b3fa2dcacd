"""What is counted of a key, and where: in this process, or in Redis for all replicas together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from bridge.core.access.budgets import Spent
from bridge.core.access.keys import KeyLimits

MINUTE: Final = 60.0


def are_counted(limits: KeyLimits) -> bool:
    """Whether the requests of a key with these limits need to be counted."""
    at_once, a_minute = limits.concurrent is not None, limits.per_minute is not None
    return at_once or a_minute or limits.has_budget("tokens") or limits.has_budget("usd")


@dataclass(frozen=True, slots=True)
class Minute:
    """The requests of a key that were admitted within the last 60 seconds."""

    requests: int = 0
    next_in: float = 0.0
    """Seconds until there are fewer of them than the limit; 0 if there are already."""
    all_in: float = 0.0
    """Seconds until there are none."""


def minute_of(begun: Sequence[float], now: float, limit: int) -> Minute:
    """Return the last minute of a key; `begun` is in order, and of the same clock as `now`."""
    recent = begun[bisect_right(begun, now - MINUTE) :]
    return Minute(
        len(recent),
        max(recent[-limit] + MINUTE - now, 0.0) if len(recent) >= limit else 0.0,
        recent[-1] + MINUTE - now if recent else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Use:
    """The current use of a key."""

    running: int = 0
    """Requests admitted and not finished."""
    minute: Minute = Minute()
    spent: Spent = Spent()  # noqa: RUF009 - frozen
    """What it has used of its budgets."""


class Counts(Protocol):
    """Counts the use of each key. Callers are the names of keys."""

    async def admit(self, caller: str, limits: KeyLimits) -> str:
        """Count one more request as running and return an id for its end.

        Raises RateLimitedError if it is over a limit: see `decision.refusal`.
        """
        ...

    async def finish(self, caller: str, id: str, tokens: int = 0) -> None:
        """Count a request as ended, with what it has used of the budgets in tokens."""
        ...

    def charge(self, caller: str, usd: float) -> None:
        """Count what a key has used of its budgets in dollars."""
        ...

    async def use(self, caller: str, limits: KeyLimits) -> Use:
        """Return the current use of a key; what others count of it may be some seconds old."""
        ...

    def spent(self, caller: str) -> Spent:
        """Return what a key has used of its budgets, as far as this process knows."""
        ...

    def counting(self) -> AbstractAsyncContextManager[None]:
        """Do what is due regularly, within the block."""
        ...
