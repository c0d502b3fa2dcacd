"""Counts the use of each key in Redis, for all replicas together.

While Redis is away, each replica counts by itself: requests of its own only, and of budgets what
was known of the others at last. What it counted meanwhile, Redis gets with the next call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bridge.core.access.budgets import Spent, periods
from bridge.core.access.counts import MINUTE, Minute, Use
from bridge.core.access.decision import refusal
from bridge.core.access.keys import KeyLimits
from bridge.core.access.local_counts import LocalCounts
from bridge.core.access.redis_script import COUNT, MICROSECONDS, NANODOLLARS
from bridge.core.redis import RedisLink, RedisUnavailableError

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 30.0
"""How long Redis counts a request as running that its replica does not mention."""
RENEW_SECONDS: Final = 10.0
"""How often a replica mentions its running requests."""
READING_SECONDS: Final = 5.0
"""How long what Redis has last said of a key serves for the headers of replies."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What Redis has said of a key."""

    use: Use
    at: float
    """On this process's monotonic clock."""


@dataclass(slots=True)
class _Key:
    """A key, and what Redis has not been told of it."""

    limits: KeyLimits = KeyLimits()  # noqa: RUF009 - frozen
    """As of its last request."""
    ended: dict[str, float] = field(default_factory=dict)
    """Requests and when they ended, on the monotonic clock."""
    begun: dict[str, float] = field(default_factory=dict)
    """Requests that were admitted without Redis and when, on the same clock."""
    behind: bool = False
    """Whether Redis may not know of the running requests."""
    reading: _Reading | None = None
    others: Spent = Spent()  # noqa: RUF009 - frozen
    """What the other replicas had used at the last reading, in `periods`."""
    periods: tuple[str, str] = ("", "")


class RedisCounts:
    """The counts of all replicas that use the same Redis."""

    def __init__(
        self,
        link: RedisLink,
        own: LocalCounts,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`own` counts what this replica does; only that, unless its file is shared."""
        self._link = link
        self._own = own
        self._clock = clock
        self._now = now
        self._keys: dict[str, _Key] = {}
        self._due: set[str] = set()
        """The keys of which Redis is to be told soon."""
        self._woken = asyncio.Event()
        self._mark_name = link.key("use", "", "mark")
        self._mark = ""
        """As last seen; empty before the first call."""
        link.follow(self._link_changed)

    async def admit(self, caller: str, limits: KeyLimits) -> str:
        """Count one more request as running; raises RateLimitedError."""
        key, id = self._key(caller), uuid.uuid4().hex
        key.limits = limits
        try:
            admitted, use = await self._call(caller, id)
        except RedisUnavailableError:
            return self._admit_alone(caller, id)
        except asyncio.CancelledError:
            # It may have been admitted.
            self._end_later(caller, id)
            raise
        if not admitted:
            error = refusal(limits, use, self._now())
            assert error is not None, "the script and the decision disagree"
            raise error
        self._own.note(caller, id, limits)
        return id

    def _admit_alone(self, caller: str, id: str) -> str:
        limits = self._key(caller).limits
        use = replace(self._own.use_now(caller, limits), spent=self.spent(caller))
        error = refusal(limits, use, self._now())
        if error is not None:
            # It may have been admitted before the connection broke.
            self._end_later(caller, id)
            raise error
        self._own.note(caller, id, limits)
        if limits.per_minute is not None:
            key, now = self._key(caller), self._clock()
            key.begun = {each: at for each, at in key.begun.items() if now - at < MINUTE}
            key.begun[id] = now
        return id

    async def finish(self, caller: str, id: str, tokens: int = 0) -> None:
        """Count a request as ended."""
        await self._own.finish(caller, id, tokens)
        self._note_end(caller, id)
        try:
            with suppress(RedisUnavailableError):
                await self._call(caller)
        except asyncio.CancelledError:
            self._wake(caller)
            raise

    def charge(self, caller: str, usd: float) -> None:
        """Count what a key has used of its budgets in dollars; Redis is told soon."""
        self._own.charge(caller, usd)
        self._wake(caller)

    async def use(self, caller: str, limits: KeyLimits) -> Use:
        """Return the current use of a key."""
        key = self._key(caller)
        key.limits = limits
        with suppress(RedisUnavailableError):
            reading, now = key.reading, self._clock()
            if reading is None or reading.at + READING_SECONDS <= now or key.behind:
                return (await self._call(caller))[1]
            passed = now - reading.at
            minute = reading.use.minute
            all_in = max(minute.all_in - passed, 0.0)
            return replace(reading.use, minute=replace(minute, all_in=all_in))
        return replace(self._own.use_now(caller, limits), spent=self.spent(caller))

    def spent(self, caller: str) -> Spent:
        """Return what a key has used of its budgets, as far as this replica knows."""
        key, own = self._key(caller), self._own.spent(caller)
        day, month = periods(self._now())
        return own.plus(key.others.of(day=key.periods[0] == day, month=key.periods[1] == month))

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Renew the leases of running requests, and tell Redis what could not be told before."""
        # What was used before a restart, when Redis may have been away.
        self._due.update(self._own.spenders)
        task = asyncio.create_task(self._keep_telling())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self._due.update(self._keys)
            await self._tell_due()
            self._own.store()

    async def _keep_telling(self) -> None:
        renewal = self._clock() + RENEW_SECONDS
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(renewal - self._clock(), 0.0)):
                    await self._woken.wait()
            self._woken.clear()
            try:
                if renewal <= self._clock():
                    renewal = self._clock() + RENEW_SECONDS
                    self._due.update(self._own.runners, self._behind)
                    await self._check_mark()
                await self._tell_due()
            except Exception:
                logger.exception("the use of keys could not be reported to Redis")

    async def _tell_due(self) -> None:
        while self._due and self._link.up:
            caller = self._due.pop()
            with suppress(RedisUnavailableError):
                await self._call(caller, renew=True)

    def _link_changed(self, up: bool) -> None:
        if up:
            self._tell_all()

    def _tell_all(self) -> None:
        """Tell Redis everything soon: it may have been started again, and be empty."""
        for key in self._keys.values():
            key.behind = True
        self._due.update(self._keys)
        self._woken.set()

    async def _check_mark(self) -> None:
        """Notice if Redis has lost what it knew without having been away, as it seemed."""
        with suppress(RedisUnavailableError):
            if self._mark and await self._link.execute("GET", self._mark_name) != self._mark:
                self._mark = ""
                self._tell_all()

    @property
    def _behind(self) -> list[str]:
        return [caller for caller, key in self._keys.items() if key.behind]

    def _wake(self, caller: str) -> None:
        self._due.add(caller)
        self._woken.set()

    def _end_later(self, caller: str, id: str) -> None:
        self._note_end(caller, id)
        self._wake(caller)

    def _note_end(self, caller: str, id: str) -> None:
        key, now = self._key(caller), self._clock()
        # The leases of older ones have ended.
        key.ended = {each: at for each, at in key.ended.items() if now - at < LEASE_SECONDS}
        key.ended[id] = now

    def _key(self, caller: str) -> _Key:
        return self._keys.setdefault(caller, _Key())

    async def _call(self, caller: str, id: str = "", *, renew: bool = False) -> tuple[bool, Use]:
        """Tell Redis what is new of a key, and ask it to admit the request `id`, if any.

        Return whether it is admitted, and the use of the key after that.
        """
        key = self._key(caller)
        own, now = self._own.spent(caller), self._now()
        renew = renew or key.behind
        running = self._own.running(caller) if renew else ()
        ended, begun = tuple(key.ended), dict(key.begun)
        names = (("running",), ("begun",), *(("used", period) for period in periods(now)))
        told = {
            "server": self._own.source,
            "lease": int(LEASE_SECONDS * MICROSECONDS),
            "running": running,
            "ended": ended,
            "begun": self._with_ages(begun),
            "day": (own.tokens_per_day, _nano(own.usd_per_day)),
            "month": (own.tokens_per_month, _nano(own.usd_per_month)),
            **_limits_told(key.limits, id),
        }
        try:
            reply = await self._link.run(
                COUNT,
                [*(self._link.key("use", caller, *name) for name in names), self._mark_name],
                [json.dumps(told)],
            )
        except RedisUnavailableError:
            key.behind = True
            raise
        if renew:
            key.behind = False
        key.ended = {each: at for each, at in key.ended.items() if each not in ended}
        key.begun = {each: at for each, at in key.begun.items() if each not in begun}
        for each in set(running) - set(self._own.running(caller)):
            # It has ended since, and Redis may have been told that before.
            self._end_later(caller, each)
        mark, admitted, use = str(reply[0]), bool(reply[1]), _use_of(reply[2:])
        if mark != self._mark:
            if self._mark:
                self._tell_all()
            self._mark = mark
        key.reading = _Reading(use, self._clock())
        key.others, key.periods = use.spent.minus(own), periods(now)
        return admitted, use

    def _with_ages(self, begun: dict[str, float]) -> list[tuple[str, int]]:
        """Return those of the last minute, with their age in microseconds."""
        now = self._clock()
        return [
            (id, int((now - at) * MICROSECONDS)) for id, at in begun.items() if now - at < MINUTE
        ]


def _limits_told(limits: KeyLimits, id: str) -> dict[str, Any]:
    per_minute = {} if limits.per_minute is None else {"per_minute": limits.per_minute}
    if not id:
        return per_minute
    enforced = {"id": id, "concurrent": limits.concurrent, **per_minute}
    if not limits.shadow:
        enforced |= {
            "tokens_per_day": limits.tokens_per_day,
            "tokens_per_month": limits.tokens_per_month,
            "nanodollars_per_day": _reached_at(limits.usd_per_day),
            "nanodollars_per_month": _reached_at(limits.usd_per_month),
        }
    told = {name: value for name, value in enforced.items() if value is not None}
    return {**per_minute, "admit": told}


def _use_of(reply: list[int]) -> Use:
    running, requests, next_in, all_in, *spent = reply
    tokens_per_day, nano_per_day, tokens_per_month, nano_per_month = spent
    return Use(
        running,
        Minute(requests, next_in / MICROSECONDS, all_in / MICROSECONDS),
        Spent(
            tokens_per_day,
            tokens_per_month,
            nano_per_day / NANODOLLARS,
            nano_per_month / NANODOLLARS,
        ),
    )


def _nano(usd: float) -> int:
    return round(usd * NANODOLLARS)


def _reached_at(usd: float | None) -> int | None:
    """Return the nanodollars from which a limit in dollars counts as reached."""
    if usd is None:
        return None
    nano = math.ceil(usd * NANODOLLARS)
    # Multiplying rounds: as `budgets.exhausted` compares.
    return nano - 1 if (nano - 1) / NANODOLLARS >= usd else nano
