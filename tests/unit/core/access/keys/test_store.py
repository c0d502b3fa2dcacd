"""What every store of keys does."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.core.access.keys import (
    Key,
    KeyFile,
    KeyLimits,
    KeyScope,
    KeyStore,
    OldSecret,
    RedisKeys,
    digest_of,
)
from bridge.core.redis import parse_redis_url
from tests.support.redis_server import RedisServer


@pytest.fixture(params=["file", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    if request.param == "file":
        return KeyFile(tmp_path / "state" / "keys.json")
    server: RedisServer = request.getfixturevalue("redis_server")
    return RedisKeys(parse_redis_url(server.url))


LIMITS = KeyLimits(2, 30, 100_000, ("haiku", "opus"))


def test_a_key_that_is_added_is_there_hashed(store: KeyStore) -> None:
    assert store.read() == ()
    assert store.signature() is None
    secret = store.add("laptop", KeyScope.ADMIN, LIMITS, now=lambda: 12.5)
    assert re.fullmatch(r"sk-bridge-[A-Za-z0-9_-]{43}", secret)
    assert store.read() == (Key("laptop", digest_of(secret), KeyScope.ADMIN, LIMITS, 12),)
    assert store.add("phone") != secret
    assert [key.name for key in store.read()] == ["laptop", "phone"]


def test_a_name_is_given_once(store: KeyStore) -> None:
    store.add("laptop")
    with pytest.raises(ValueError, match="revoke it first"):
        store.add("laptop")
    assert len(store.read()) == 1


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "-a", "(tour)", "x" * 65, "a\n"])
def test_a_bad_name_is_refused(store: KeyStore, name: str) -> None:
    with pytest.raises(ValueError, match="letters"):
        store.add(name)


def test_a_key_that_is_revoked_is_gone(store: KeyStore) -> None:
    store.add("laptop")
    store.add("phone")
    assert store.revoke("laptop") == 1
    assert [key.name for key in store.read()] == ["phone"]
    with pytest.raises(KeyError):
        store.revoke("laptop")
    assert store.revoke("phone") == 0
    assert store.signature() is not None


def test_concurrent_changes_lose_nothing(store: KeyStore) -> None:
    names = [f"key{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(store.add, names))
    assert {key.name for key in store.read()} == set(names)


def test_each_change_is_seen_by_its_signature(store: KeyStore) -> None:
    seen = [store.signature()]
    store.add("laptop")
    seen.append(store.signature())
    assert seen[-1] == store.signature()
    store.edit("laptop", lambda key: replace(key, expires_at=5))
    seen.append(store.signature())
    store.rotate("laptop")
    seen.append(store.signature())
    assert len(set(seen)) == 4


def test_a_key_that_is_edited_is_otherwise_the_same(store: KeyStore) -> None:
    store.add("laptop")
    store.add("phone")
    laptop, phone = store.read()
    assert store.edit("phone", lambda key: replace(key, limits=LIMITS)) == store.read()[1]
    assert store.read() == (laptop, replace(phone, limits=LIMITS))
    with pytest.raises(KeyError):
        store.edit("watch", lambda key: key)

    def refused(key: Key) -> Key:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.edit("phone", refused)
    assert store.read() == (laptop, replace(phone, limits=LIMITS))


def test_a_key_that_is_rotated_has_another_secret(store: KeyStore) -> None:
    old = store.add("laptop")
    (before,) = store.read()
    new = store.rotate("laptop", 60, now=lambda: 100.9)
    replaced = (OldSecret(digest_of(old), 160),)
    assert store.read() == (replace(before, digest=digest_of(new), old_secrets=replaced),)


def test_a_name_that_is_used_again_is_remembered(store: KeyStore) -> None:
    for caller in ("laptop", "laptop#2", "laptop#3"):
        store.add("laptop")
        assert store.ring().get("laptop").caller == caller
        store.revoke("laptop")


async def test_the_last_use_is_the_latest_that_was_noted(store: KeyStore) -> None:
    for name in ("laptop", "phone"):
        await asyncio.to_thread(store.add, name)
    laptop, phone = await asyncio.to_thread(store.read)
    assert await asyncio.to_thread(store.used) == {}
    await store.note_used({laptop.id: 10, phone.id: 20})
    await store.note_used({laptop.id: 15, phone.id: 5})
    assert await asyncio.to_thread(store.used) == {laptop.id: 15, phone.id: 20}


def test_keys_are_joined_by_their_ids(store: KeyStore, tmp_path: Path) -> None:
    other = KeyFile(tmp_path / "other" / "keys.json")
    for name in ("laptop", "laptop", "phone"):
        if name in {key.name for key in other.read()}:
            other.revoke(name)
        other.add(name, limits=LIMITS)
    store.add("mine")
    for _ in range(2):
        store.change(lambda ring: ring.joined(other.ring()))
    assert store.read()[1:] == other.read()
    assert [key.caller for key in store.read()] == ["mine", "laptop#2", "phone"]
    store.revoke("laptop")
    store.add("laptop")
    assert store.ring().get("laptop").caller == "laptop#3"
    with pytest.raises(ValueError, match="other keys are named laptop already"):
        store.change(lambda ring: ring.joined(other.ring()))
