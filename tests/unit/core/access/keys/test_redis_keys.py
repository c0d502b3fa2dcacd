"""What only keys in Redis do; what every store does is in test_store.py."""

from __future__ import annotations

import json

import pytest

from bridge.core.access.keys import KeyStoreError, RedisKeys
from bridge.core.redis import parse_redis_url
from tests.support.redis_server import RedisServer

KEY = "claude-code-bridge:1:keys"


def keys_in(server: RedisServer) -> RedisKeys:
    return RedisKeys(parse_redis_url(server.url))


def test_no_secret_is_in_redis(redis_server: RedisServer) -> None:
    secret = keys_in(redis_server).add("laptop")
    stored = redis_server.command("HGETALL", KEY)
    assert "laptop" in stored
    assert secret.removeprefix("sk-bridge-") not in stored


def test_what_cannot_be_used_is_refused_in_one_line(redis_server: RedisServer) -> None:
    store = keys_in(redis_server)
    store.add("laptop")
    for text, said in [
        ("{", "are broken. Delete claude-code-bridge:1:keys"),
        (json.dumps({"version": 9, "keys": []}), "written by a newer version.*format 9"),
    ]:
        redis_server.command("HSET", KEY, "text", text)
        for use in (store.read, lambda: store.add("phone")):
            with pytest.raises(KeyStoreError, match=said) as raised:
                use()
            assert "\n" not in str(raised.value)


def test_a_redis_that_is_away_is_reported(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = keys_in(redis_server)
    store.add("laptop")
    redis_server.kill()
    for use in (store.read, store.used, lambda: store.revoke("laptop")):
        with pytest.raises(KeyStoreError, match=r"unavailable: .*BRIDGE_REDIS_URL"):
            use()
    # The command itself prints the error.
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_key_that_is_revoked_takes_its_last_use_along(redis_server: RedisServer) -> None:
    store = keys_in(redis_server)
    for name in ("laptop", "phone"):
        store.add(name)
    for key in store.read():
        redis_server.command("HSET", f"{KEY}-used", key.id, "5")
    # As something else may have written.
    redis_server.command("HSET", f"{KEY}-used", "other", "never")
    store.revoke("phone")
    assert store.used() == {store.ring().get("laptop").id: 5}
