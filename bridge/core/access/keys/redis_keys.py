"""Keys in Redis: one text for all of them, and a version that tells cheaply that it has changed.

The version counts changes. A server that knows a later one than Redis has stores it again: a Redis
that has lost data, in a restart or a failover, does not make a revoked key valid or a valid one
invalid.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from bridge.core.access.keys.key import KeyStoreError
from bridge.core.access.keys.ring import KeyRing
from bridge.core.access.keys.store import KeyStore
from bridge.core.access.keys.text import BROKEN, NewerTextError, ring_of, text_of
from bridge.core.redis import RedisAddress, RedisLink, RedisUnavailableError, Script

T = TypeVar("T")

KEYS: Final = RedisLink.key("keys")
_USED: Final = RedisLink.key("keys-used")
_DIGITS: Final = 10
"""What a number has at most."""

_SWAP: Final = Script("""
local version = redis.call('HGET', KEYS[1], 'version') or ''
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'text', ARGV[3])
return 1
""")
_NOTE: Final = Script("""
for i = 1, #ARGV, 2 do
    local before = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') or 0
    if tonumber(ARGV[i + 1]) > before then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
""")


@dataclass(frozen=True, slots=True)
class Stored:
    """The keys as they are in Redis."""

    version: str = ""
    """How many changes there were, and which one the last was; empty if there was none."""
    ring: KeyRing = KeyRing()  # noqa: RUF009 - frozen

    @property
    def changes(self) -> int:
        """How many changes there were."""
        return changes_of(self.version)


def changes_of(version: str) -> int:
    """Return how many changes led to a version; raises ValueError for what is none."""
    number = version.partition(":")[0]
    if number and not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
        raise ValueError
    return int(number or 0)


async def version_of(link: RedisLink) -> str:
    """Return the version of the keys; empty if there are none. Raises RedisUnavailableError."""
    return await link.execute("HGET", KEYS, "version") or ""


async def load(link: RedisLink) -> Stored:
    """Return the keys; raises KeyStoreError and RedisUnavailableError."""
    version, text = await link.execute("HMGET", KEYS, "version", "text")
    if version is None:
        return Stored()
    try:
        changes_of(version)
        return Stored(version, ring_of(text))
    except NewerTextError as error:
        raise KeyStoreError(
            f"The keys in Redis at {link.name} were written by a newer version of the bridge: "
            f"{error}. Upgrade this one."
        ) from None
    except BROKEN:
        raise KeyStoreError(
            f"The keys in Redis at {link.name} are broken. Delete {KEYS} there while no server "
            "runs, and import or create keys again: bridge keys import FILE."
        ) from None


async def swap(link: RedisLink, expected: str, new: Stored) -> bool:
    """Store keys if the version is still the expected one; raises RedisUnavailableError."""
    return bool(await link.run(_SWAP, [KEYS], [expected, new.version, text_of(new.ring)]))


async def note_used(link: RedisLink, times: Mapping[str, int]) -> None:
    """Store when keys were last used; raises KeyStoreError."""
    pairs = [word for id, at in times.items() for word in (id, at)]
    try:
        await link.run(_NOTE, [_USED], pairs)
    except RedisUnavailableError as error:
        raise KeyStoreError(f"Redis at {link.name} is unavailable: {error}.") from error


class RedisKeys(KeyStore):
    """The keys in Redis, for commands: each call connects by itself, outside any event loop."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address

    @property
    def place(self) -> str:
        """Where the keys are, as the subject of a sentence."""
        return f"Redis at {self._address}"

    @property
    def removal(self) -> str:
        """What an operator does to serve without keys again."""
        return f"stop all servers, delete {KEYS} in Redis and start them again"

    def signature(self) -> Hashable | None:
        """Return the version; None if there are no keys."""
        return self._linked(version_of) or None

    def ring(self) -> KeyRing:
        """Return the keys; none if there is nothing. Raises KeyStoreError."""
        return self._linked(load).ring

    def change(self, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
        """Change the keys, again if another process was faster; see `KeyStore.change`."""

        async def changed(link: RedisLink) -> KeyRing:
            while True:
                before = await load(link)
                version = f"{before.changes + 1}:{secrets.token_hex(8)}"
                after = Stored(version, change(before.ring))
                if await swap(link, before.version, after):
                    gone = {key.id for key in before.ring.keys} - {k.id for k in after.ring.keys}
                    if gone:
                        await link.execute("HDEL", _USED, *gone)
                    return after.ring

        return self._linked(changed)

    def used(self) -> Mapping[str, int]:
        """Return when keys were last used; see `KeyStore.used`."""

        async def found(link: RedisLink) -> dict[str, int]:
            times = await link.execute("HGETALL", _USED)
            return {id: int(at) for id, at in times.items() if at.isdigit() and len(at) <= _DIGITS}

        return self._linked(found)

    async def note_used(self, times: Mapping[str, int]) -> None:
        """Store when keys were last used; see `KeyStore.note_used`."""
        await asyncio.to_thread(self._linked, lambda link: note_used(link, times))

    def _linked(self, work: Callable[[RedisLink], Awaitable[T]]) -> T:
        async def done() -> T:
            link = RedisLink(self._address, quiet=True)
            try:
                await link.start()
                return await work(link)
            except RedisUnavailableError as error:
                raise KeyStoreError(
                    f"{self.place} is unavailable: {error}. Keys are stored there, because "
                    "BRIDGE_REDIS_URL is set."
                ) from error
            finally:
                await link.aclose()

        return asyncio.run(done())
