"""What every store of keys does."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.core.access.keys import Key, KeyFile, KeyLimits, KeyScope, KeyStore, digest_of


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyFile(tmp_path / "state" / "keys.json")


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


def test_each_change_gives_another_signature(store: KeyStore) -> None:
    store.add("laptop")
    one = store.signature()
    assert one == store.signature()
    store.add("phone")
    assert store.signature() != one
