"""The limits of each key and its use: concurrent requests, requests per minute, tokens per day.

Whether a request is over a limit is decided by one pure function; the rest counts.
"""

from __future__ import annotations

import json
import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bridge.core.access.keys import KeyLimits
from bridge.core.contract import Allowance, Allowances, RateLimitedError
from bridge.core.system import locked, private_folder, replace_file

logger = logging.getLogger(__name__)

USAGE_FILE: Final = "usage.json"
"""Its name in the state folder."""
MINUTE: Final = 60.0
DAY: Final = 86_400.0
AT_ONCE_RETRY_SECONDS: Final = 1.0
"""Used for concurrent requests: it is unknown when one of them ends."""


@dataclass(frozen=True, slots=True)
class Use:
    """The current use of a key."""

    running: int = 0
    """Requests admitted and not finished."""
    begun: tuple[float, ...] = ()
    """When its latest requests were admitted, in seconds of a monotonic clock, in order."""
    tokens_today: int = 0


def refusal(
    limits: KeyLimits, use: Use, now: float, until_midnight: float
) -> RateLimitedError | None:
    """Return why one more request is refused, or None if it is admitted.

    `now` is from the same clock as `use.begun`. If several limits are reached, the one that holds
    longest is reported, so that a retry after `retry_after` is not refused by another.
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
    if limits.tokens_per_day is not None and use.tokens_today >= limits.tokens_per_day:
        found.append(
            RateLimitedError(
                f"This key has reached its limit of {limits.tokens_per_day} tokens per day "
                f"({use.tokens_today} used). The limit resets at midnight UTC.",
                reason="KEY_TOKENS_PER_DAY",
                retry_after=until_midnight,
                retryable=False,
            )
        )
    return max(found, key=lambda error: error.retry_after or 0.0, default=None)


def allowances(
    limits: KeyLimits, use: Use, now: float, until_midnight: float, unix_now: float
) -> Allowances:
    """Return what is left of the limits that are counted over time; see `refusal`."""
    requests, tokens = None, None
    if limits.per_minute is not None:
        recent = use.begun[bisect_right(use.begun, now - MINUTE) :]
        left = max(limits.per_minute - len(recent), 0)
        seconds = recent[-1] + MINUTE - now if recent else 0.0
        requests = Allowance(limits.per_minute, left, unix_now + seconds)
    if limits.tokens_per_day is not None:
        left = max(limits.tokens_per_day - use.tokens_today, 0)
        tokens = Allowance(limits.tokens_per_day, left, unix_now + until_midnight)
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
    """Counts the use of each key; the day's tokens survive a restart.

    A day is a UTC day. An admitted request is answered to its end, so the last ones of a day can
    exceed the limit by what they use.
    """

    def __init__(
        self,
        limits_of: Callable[[str], KeyLimits] = lambda caller: KeyLimits(),
        file: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Store the day's tokens in `file`; None keeps them in memory only."""
        self.limits_of = limits_of
        self._file = file
        self._clock = clock
        self._now = now
        self._counts: dict[str, _Count] = {}
        self._day = ""
        self._tokens: dict[str, int] = {}
        self._complained = False

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
        error = refusal(limits, self._use(caller), now, DAY - self._now() % DAY)
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
            if limits.tokens_per_day is not None:
                self._spend(caller, meter.tokens)

    def allowances(self, caller: str) -> Allowances:
        """Return what a key may use now."""
        limits = self.limits_of(caller)
        if limits == KeyLimits():
            return Allowances()
        now = self._now()
        return allowances(limits, self._use(caller), self._clock(), DAY - now % DAY, now)

    def _use(self, caller: str) -> Use:
        count = self._counts.get(caller, _Count())
        return Use(count.running, tuple(count.begun), self.tokens_today(caller))

    def tokens_today(self, caller: str) -> int:
        """Return the tokens that a key has used since midnight UTC."""
        if self._day != self._today():
            self._day, self._tokens = self._today(), self._kept()
        return self._tokens.get(caller, 0)

    def _today(self) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self._now()))

    def _spend(self, caller: str, tokens: int) -> None:
        if tokens == 0:
            return
        before = self.tokens_today(caller)
        if self._file is None:
            self._tokens[caller] = before + tokens
            return
        try:
            private_folder(self._file.parent)
            with locked(self._file):
                # Another server with the same folder may have updated the file.
                kept = self._kept()
                kept[caller] = kept.get(caller, 0) + tokens
                text = json.dumps({"day": self._day, "tokens": kept}) + "\n"
                # This runs on the event loop after each request: do not wait for the disk.
                replace_file(self._file, text, durable=False)
                self._tokens = kept
        except OSError as error:
            self._tokens[caller] = before + tokens
            if not self._complained:
                self._complained = True
                logger.warning("key usage cannot be stored in %s: %s", self._file, error)

    def _kept(self) -> dict[str, int]:
        """Return today's tokens, as stored in the file."""
        if self._file is None:
            return {}
        try:
            content: Any = json.loads(self._file.read_text(encoding="utf-8"))
            if content["day"] != self._today():
                return {}
            return {str(name): int(tokens) for name, tokens in content["tokens"].items()}
        except FileNotFoundError:
            return {}
        except (
            OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError
        ) as error:  # fmt: skip
            logger.warning("key usage cannot be read from %s: %s", self._file, error)
            return {}
