"""A server's copy of the keys in a real Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.core.access.keys import FollowedKeys, KeyStoreError, RedisKeys
from bridge.core.redis import RedisLink, parse_redis_url
from tests.support.redis_server import RedisServer

KEY = "claude-code-bridge:1:keys"


@asynccontextmanager
async def linked(server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(parse_redis_url(server.url))
    await link.start()
    try:
        yield link
    finally:
        await link.aclose()


async def back(link: RedisLink) -> None:
    """Wait until the link is up again."""
    came = asyncio.Event()
    link.follow(lambda up: came.set() if up else None)
    if not link.up:
        await asyncio.wait_for(came.wait(), 60)


async def changed(server: RedisServer, name: str, *arguments: str) -> None:
    store = RedisKeys(parse_redis_url(server.url))
    await asyncio.to_thread(getattr(store, name), *arguments)


def names(keys: FollowedKeys) -> list[str]:
    return [key.name for key in keys.read()]


async def test_changes_are_followed(redis_server: RedisServer) -> None:
    async with linked(redis_server) as link:
        keys = FollowedKeys(link)
        assert not keys.known
        await keys.look()
        assert (keys.known, keys.signature(), names(keys)) == (True, None, [])
        seen = []
        for change in ("add", "rotate", "revoke"):
            await changed(redis_server, change, "laptop")
            await keys.look()
            seen.append(keys.signature())
            assert names(keys) == ([] if change == "revoke" else ["laptop"])
        assert None not in seen
        assert len(set(seen)) == 3


async def test_while_redis_is_away_the_keys_stay(redis_server: RedisServer) -> None:
    async with linked(redis_server) as link:
        keys = FollowedKeys(link)
        await changed(redis_server, "add", "laptop")
        await keys.look()
        redis_server.kill()
        for _ in range(2):
            await keys.look()
            assert (keys.known, names(keys)) == (True, ["laptop"])


async def test_nothing_is_known_of_a_redis_that_was_away_from_the_start(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.kill()
    async with linked(redis_server) as link:
        keys = FollowedKeys(link)
        for _ in range(3):
            await keys.look()
        assert (keys.known, names(keys)) == (False, [])
        (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert "refuses every request that needs one" in record.getMessage()
        redis_server.start()
        await back(link)
        await keys.look()
        assert keys.known


async def test_a_redis_that_lost_changes_gets_them_back(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(redis_server) as link:
        stale, latest = FollowedKeys(link), FollowedKeys(link)
        for name in ("laptop", "phone"):
            await changed(redis_server, "add", name)
        await stale.look()
        await changed(redis_server, "revoke", "phone")
        await latest.look()
        redis_server.command("FLUSHALL")
        # Whoever comes first: what was revoked stays so.
        for keys in (stale, latest, stale):
            await keys.look()
        assert names(stale) == names(latest) == ["laptop"]
        assert stale.signature() == latest.signature()
        assert "had lost the latest keys" in caplog.text
        await changed(redis_server, "add", "watch")
        await stale.look()
        assert names(stale) == ["laptop", "watch"]


@pytest.mark.parametrize("version", ["7:broken", "x:broken", "9" * 5000])
async def test_what_cannot_be_read_is_said_once_and_changes_nothing(
    redis_server: RedisServer, version: str
) -> None:
    async with linked(redis_server) as link:
        keys = FollowedKeys(link)
        await changed(redis_server, "add", "laptop")
        await keys.look()
        redis_server.command("HSET", KEY, "text", "{", "version", version)
        with pytest.raises(KeyStoreError, match="broken"):
            await keys.look()
        await keys.look()
        assert names(keys) == ["laptop"]
        redis_server.command("HSET", KEY, "text", '{"version": 1, "keys": []}', "version", "8:ok")
        await keys.look()
        assert names(keys) == []
