"""What the stores in Redis have in common: the place, the bounds, and how its scripts are run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from bridge.core.answers.store import JsonDict
from bridge.core.answers.texts import DamagedError, dumps, loads
from bridge.core.contract import StoreUnavailableError, TooLargeError
from bridge.core.redis import RedisLink, RedisUnavailableError, Script
from bridge.core.system import LARGE_BYTES, off_loop

logger = logging.getLogger(__name__)

_DAY: Final = 86_400.0
_SECONDS: Final = 5.0
"""How long a script may take: a long conversation has some megabytes."""


class RedisStorage:
    """Stored responses and conversations in Redis, shared by all servers that use it."""

    def __init__(
        self,
        link: RedisLink,
        *,
        days: float = 30.0,
        max_bytes: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep a conversation for `days` after its last use, and at most `max_bytes` of all."""
        self.max_bytes = max_bytes
        self._link = link
        self._seconds = days * _DAY
        self._clock = clock

    async def run(self, script: Script, *args: str | int) -> Any:
        """Run a script; raises StoreUnavailableError."""
        first = (self._link.key("responses", ""), repr(self._clock()), repr(self._seconds))
        try:
            return await self._link.run(script, (), (*first, *args), seconds=_SECONDS)
        except RedisUnavailableError as error:
            raise StoreUnavailableError(retryable=True) from error

    async def items(self, script: Script, owner: str, id: str, most: int) -> list[JsonDict] | None:
        """Run a script that returns lists of items or items, unless they have too many bytes."""
        state, *found = await self.run(script, owner, id, most)
        if state == 0:
            return None
        if state < 0:
            raise TooLargeError(
                f"The conversation so far has more than {most} bytes. Start a new one."
            )
        items: list[JsonDict] = await self.read(_listed, found)
        return items

    async def read(self, work: Callable[[Sequence[str]], Any], texts: Sequence[str]) -> Any:
        """Parse texts, off the event loop if they are long."""
        try:
            return await off_loop(sum(map(len, texts)) > LARGE_BYTES, work, texts)
        except DamagedError as error:
            logger.warning("what Redis has stored cannot be used: %s", error)
            raise StoreUnavailableError from error


async def written(*values: object) -> list[str]:
    """Serialize values, which may be large, off the event loop."""
    return await asyncio.to_thread(lambda: [dumps(value) for value in values])


def _listed(texts: Iterable[str]) -> list[JsonDict]:
    items: list[JsonDict] = []
    for text in texts:
        value = loads(text)
        items += value if isinstance(value, list) else [value]
    return items
