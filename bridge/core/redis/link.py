"""The link to Redis: whether it is up, and what an absent Redis costs, which is nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bridge.core.redis.address import RedisAddress
from bridge.core.redis.script import Script
from bridge.core.redis.unavailable import RedisUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from bridge.core.redis.client import Value

logger = logging.getLogger(__name__)

T = TypeVar("T")

PREFIX: Final = "claude-code-bridge:1:"
"""Begins every key. The number is the version of what is stored: replicas of two versions that
store the same differently do not read each other's."""
COMMAND_SECONDS: Final = 1.0
"""How long each command may take, its connection included."""
_LOOK_SECONDS: Final = 1.0
"""How often the link is tested."""
_REPEAT_SECONDS: Final = 60.0
"""How often the log repeats that commands are refused."""


class RedisLink:
    """The link of this process to Redis.

    A command fails at once while Redis is known to be away. That becomes known by the first command
    that fails, or by a test each second, which also finds out that Redis is back.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`quiet` logs at the level debug: for commands, which report their errors themselves."""
        # Slow to import, and only for those who use it.
        from bridge.core.redis.client import RedisClient

        self.name = str(address)
        """Where Redis is, without user name and password."""
        self._client = RedisClient(address)
        self._level = logging.DEBUG if quiet else logging.WARNING
        self._clock = clock
        self._up = False
        self._why = "not tested yet"
        self._since: float | None = None
        """When it went away; None if it has not yet been tested or is not away."""
        self._times_up = 0
        self._refused_at: float | None = None
        """When the log last said that it refuses a command."""
        self._followers: list[Callable[[bool], None]] = []
        self._watching: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._up

    @property
    def why(self) -> str:
        """Why it is away; empty if it is not."""
        return "" if self._up else self._why

    def follow(self, call: Callable[[bool], None]) -> None:
        """Call this with the new state whenever Redis goes away or comes back."""
        self._followers.append(call)

    async def start(self) -> None:
        """Test the link once, and regularly from now on. A Redis that is away is only logged."""
        await self._look()
        self._watching = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Close the connections."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        await self._client.aclose()

    @staticmethod
    def key(*parts: str) -> str:
        """Return the name of a key."""
        return PREFIX + ":".join(parts)

    async def execute(self, *command: Value, seconds: float = 0.0) -> Any:
        """Execute a command; the reply is as redis-py converts it, with str.

        It may take `seconds`, if those are more than COMMAND_SECONDS.

        Raises RedisUnavailableError, also for what Redis refuses, such as a key of another type.
        """
        return await self._guarded(lambda: self._client.execute(*command), seconds)

    async def run(
        self,
        script: Script,
        keys: Sequence[str] = (),
        args: Sequence[Value] = (),
        *,
        seconds: float = 0.0,
    ) -> Any:
        """Run a script; see `execute`. An error may mean that it has run, but never twice."""
        return await self._guarded(
            lambda: self._client.run(script, tuple(keys), tuple(args)), seconds
        )

    async def _guarded(self, work: Callable[[], Awaitable[T]], seconds: float) -> T:
        if not self._up:
            raise RedisUnavailableError(self._why)
        return await self._tried(work, seconds)

    async def _tried(self, work: Callable[[], Awaitable[T]], seconds: float = 0.0) -> T:
        from bridge.core.redis.client import AwayError, RefusedError

        times_up = self._times_up
        seconds = max(seconds, COMMAND_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                return await work()
        except TimeoutError:
            why = f"no reply within {seconds:g} s"
        except AwayError as error:
            why = str(error)
        except RefusedError as error:
            self._refused(str(error))
            raise RedisUnavailableError(str(error)) from error
        if times_up == self._times_up:
            # Otherwise it has been away and is back since this command was sent.
            self._lost(why)
        raise RedisUnavailableError(why)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look()
            except Exception:
                # Without this task, nothing would notice that Redis is back.
                logger.exception("Redis at %s could not be tested", self.name)

    async def _look(self) -> None:
        if not self._up:
            # Those to a host that is gone would each take their time to fail.
            await self._client.drop_idle()
        try:
            await self._tried(self._test)
        except RedisUnavailableError as error:
            if self._since is None:
                # It is up otherwise, but refuses even this.
                self._lost(str(error))
        else:
            self._found()

    async def _test(self) -> None:
        if not self._up:
            await self._client.resolve()
        await self._client.execute("PING")

    def _lost(self, why: str) -> None:
        self._why = why
        if self._since is not None:
            return
        self._up, self._since = False, self._clock()
        logger.log(
            self._level,
            "Redis at %s is unavailable (%s): stored responses cannot be used, keys cannot be "
            "changed, and this server counts by itself, until it is back",
            self.name,
            why,
        )
        self._tell()

    def _found(self) -> None:
        if self._up:
            return
        away, self._since = self._since, None
        self._up = True
        self._times_up += 1
        if away is not None:
            seconds = self._clock() - away
            logger.log(self._level, "Redis at %s is back after %.0f s", self.name, seconds)
        self._tell()

    def _tell(self) -> None:
        for call in self._followers:
            call(self._up)

    def _refused(self, why: str) -> None:
        now = self._clock()
        if self._refused_at is None or self._refused_at + _REPEAT_SECONDS <= now:
            self._refused_at = now
            logger.log(self._level, "Redis at %s refuses a command: %s", self.name, why)
