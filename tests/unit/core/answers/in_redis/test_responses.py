"""What only the store in Redis does: several servers share it, and Redis may be away."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from bridge.core.answers import (
    RedisResponseStore,
    RedisStorage,
    StoredConversation,
    StoredResponse,
)
from bridge.core.contract import StoreUnavailableError
from bridge.core.redis import RedisLink, parse_redis_url
from tests.support.redis_server import RedisServer

MEGABYTE = 1024 * 1024
DAY = 86_400.0


def response(id: str, parent: str | None = None) -> StoredResponse:
    return StoredResponse(id, parent, [{"text": id}], {"id": id, "output": []})


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(parse_redis_url(redis_server.url))
    await link.start()
    yield link
    await link.aclose()


@pytest.fixture
async def store(link: RedisLink) -> RedisResponseStore:
    return RedisResponseStore(RedisStorage(link, days=2))


async def ttls(link: RedisLink) -> dict[str, int]:
    keys = await link.execute("KEYS", "*")
    return {key: await link.execute("TTL", key) for key in keys}


async def test_every_key_has_the_prefix_and_expires(
    store: RedisResponseStore, link: RedisLink
) -> None:
    await store.put("a", response("r1"))
    await store.put("a", response("r2", "r1"))
    await store.conversations.create(
        "a", StoredConversation("conv", 0, {}), [{"id": "i", "text": "x"}]
    )
    prefix = link.key("responses", "")
    for key in await ttls(link):
        assert key.startswith(prefix)
        await link.execute("EXPIRE", key, 10)

    await store.put("a", response("r3", "r2"))
    await store.conversations.update("a", "conv", {})

    found = await ttls(link)
    names = {key.removeprefix(prefix) for key in found}
    ids = ("response:r1", "response:r2", "response:r3", "conversation:r1")
    assert names == {*ids, "conversation:conv", "conversation:conv:items", "uses", "sizes", "total"}
    assert all(2 * DAY - 600 < seconds <= 2 * DAY for seconds in found.values())


async def test_nothing_is_left_of_what_is_deleted(
    store: RedisResponseStore, link: RedisLink
) -> None:
    await store.put("a", response("r1"))
    await store.put("a", response("r2", "r1"))
    await store.conversations.create(
        "a", StoredConversation("conv", 0, {}), [{"id": "i", "text": "x"}]
    )
    for id in ("r1", "r2"):
        assert await store.delete("a", id)
    assert await store.conversations.delete("a", "conv")

    assert await ttls(link) == {link.key("responses", "total"): pytest.approx(2 * DAY, abs=600)}
    assert await link.execute("GET", link.key("responses", "total")) == "0"


async def test_what_expires_by_itself_is_no_longer_counted(
    store: RedisResponseStore, link: RedisLink
) -> None:
    now = 1_700_000_000.0
    store = RedisResponseStore(RedisStorage(link, days=2, clock=lambda: now))
    await store.put("a", response("r1"))
    total = await link.execute("GET", link.key("responses", "total"))
    await store.put("a", response("r2"))
    # As Redis does once their time has come.
    for name in ("conversation:r1", "response:r1"):
        await link.execute("DEL", link.key("responses", name))
    assert await store.get("a", "r1") is None
    now += 2 * DAY
    await store.put("a", response("r3"))

    assert await link.execute("GET", link.key("responses", "total")) == total


async def test_while_redis_is_away_nothing_is_stored_and_reading_is_an_error(
    store: RedisResponseStore, link: RedisLink, redis_server: RedisServer
) -> None:
    await store.put("a", response("r1"))
    redis_server.kill()
    assert not await store.put("a", response("r2"))
    await store.expire()
    for reading in (
        store.get("a", "r1"),
        store.history("a", "r1", MEGABYTE),
        store.delete("a", "r1"),
        store.conversations.get("a", "conv"),
        store.conversations.items("a", "conv", MEGABYTE),
        store.conversations.add("a", "conv", []),
    ):
        with pytest.raises(StoreUnavailableError) as raised:
            await reading
        assert raised.value.retryable


async def test_what_is_damaged_is_an_error_and_not_an_answer(
    store: RedisResponseStore, link: RedisLink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await store.put("a", response("r1"))
    await link.execute("HSET", link.key("responses", "conversation:r1"), "input:r1", "[1")
    with pytest.raises(StoreUnavailableError) as raised:
        await store.get("a", "r1")
    assert not raised.value.retryable
    with pytest.raises(StoreUnavailableError):
        await store.history("a", "r1", MEGABYTE)
    assert "not JSON" in caplog.text


async def test_what_is_no_json_is_not_stored(
    store: RedisResponseStore, caplog: pytest.LogCaptureFixture
) -> None:
    circular: dict[str, object] = {}
    circular["self"] = circular
    assert not await store.put("a", StoredResponse("r", None, [circular], {"output": []}))
    assert "cannot be written as JSON" in caplog.text
