"""The places where the use of keys can be counted, each with clocks that tests set."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.core.access.keys import KeyLimits
from bridge.core.access.local_counts import LocalCounts
from bridge.core.access.quotas import Quotas
from bridge.core.access.redis_counts import RedisCounts
from bridge.core.access.spending import USAGE_FILE
from bridge.core.redis import RedisLink, parse_redis_url
from tests.support.redis_server import RedisServer

# Redis counts by its own clock: what it knows is made older instead.
_AGE = """
for _, name in ipairs(redis.call('KEYS', '*')) do
  if redis.call('TYPE', name).ok == 'zset' then
    for _, id in ipairs(redis.call('ZRANGE', name, 0, -1)) do
      redis.call('ZINCRBY', name, -ARGV[1], id)
    end
  end
end
"""


class Clocks:
    """A monotonic clock, and Unix time."""

    def __init__(self, time: float) -> None:
        self.now = 1000.0
        self.time = time

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.time += seconds


class CountingLink(RedisLink):
    """Counts the calls, and can hold back one of them, or its reply."""

    calls = 0
    held: asyncio.Event | None = None
    """The next call is sent once this is set."""
    withheld: asyncio.Event | None = None
    """The reply to the next call comes once this is set."""
    replies = 0

    async def run(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        held, self.held = self.held, None
        withheld, self.withheld = self.withheld, None
        if held is not None:
            await held.wait()
        reply = await super().run(*args, **options)
        self.replies += 1
        if withheld is not None:
            await withheld.wait()
        return reply


@dataclass
class Replica:
    """A server, as far as it counts."""

    quotas: Quotas
    counts: RedisCounts
    link: CountingLink
    own: LocalCounts
    counting: AsyncExitStack
    """Ends its counting, as at the end of a server."""


class Place:
    """Where the requests of the key `k` are counted."""

    def __init__(self, kind: str, folder: Path, time: float, stack: AsyncExitStack) -> None:
        """`kind` is memory, file or redis; `stack` closes what is opened."""
        self.kind = kind
        self.clocks = Clocks(time)
        self.limits = KeyLimits()
        self.redis: RedisServer | None = None
        self._url = ""
        self._folder = folder
        self._stack = stack
        self._replicas = 0
        self._alone: Quotas | None = None

    def use(self, redis: RedisServer, url: str = "") -> None:
        """Count in this Redis, by default as its administrator."""
        self.redis = redis
        self._url = url or redis.url

    async def server(self, limits: KeyLimits | None = None) -> Quotas:
        """Start a server, which counts with the others."""
        if limits is not None:
            self.limits = limits
        if self.kind == "redis":
            return (await self.replica()).quotas
        if self._alone is None:
            file = self._folder / USAGE_FILE if self.kind == "file" else None
            self._alone = self._quotas(self._local(file))
        return self._alone

    async def replica(self, file: Path | None = None) -> Replica:
        """Start a server that counts in Redis."""
        link = CountingLink(parse_redis_url(self._url))
        self._stack.push_async_callback(link.aclose)
        own = self._local(file)
        counts = RedisCounts(link, own, clock=self._now, now=self._time)
        await link.start()
        counting = await self._stack.enter_async_context(AsyncExitStack())
        await counting.enter_async_context(counts.counting())
        quotas = Quotas(self._limits_of, counts, now=self._time)
        return Replica(quotas, counts, link, own, counting)

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.clocks.pass_(seconds)
        if self.redis is not None:
            self.redis.command("EVAL", _AGE, "0", json.dumps(round(seconds * 1e6)))

    def _limits_of(self, caller: str) -> KeyLimits:
        return self.limits

    def _now(self) -> float:
        return self.clocks.now

    def _time(self) -> float:
        return self.clocks.time

    def _local(self, file: Path | None) -> LocalCounts:
        return LocalCounts(file, clock=self._now, now=self._time)

    def _quotas(self, counts: LocalCounts) -> Quotas:
        return Quotas(self._limits_of, counts, now=self._time)


async def use(quotas: Quotas, tokens: int = 0, usd: float = 0.0, caller: str = "k") -> None:
    """Make a request that costs so much; raises RateLimitedError."""
    async with quotas.admitted(caller) as meter:
        meter.tokens = tokens
    quotas.charge(caller, usd)
