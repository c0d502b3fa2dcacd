"""Keys that expire, get a new secret or other limits while the server runs, at every API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest

from bridge.core.access.keys import Key, KeyLimits, KeyRing, KeyScope, KeyStore, RedisKeys
from bridge.core.redis import RedisAddress, parse_redis_url
from bridge.server import key_store
from tests.support.every_api import APIS, OK, Client
from tests.support.harness import LONG, LoopThread, RunningBridge, settings_for_tests, sim
from tests.support.redis_server import RedisServer


class _Seen(RedisKeys):
    """Waits until the server has seen a change, which it would within a second."""

    def __init__(self, address: RedisAddress) -> None:
        super().__init__(address)
        self.running: RunningBridge | None = None

    def change(self, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
        ring = super().change(change)
        if self.running is not None:
            source = self.running.bridge.access._store
            assert source is not None
            self.running.call(source.look)
        return ring


class Guarded(Client):
    """A bridge with keys in its file, or in Redis."""

    def __init__(self, running: RunningBridge, store: KeyStore) -> None:
        super().__init__(running)
        self.running = running
        self.file = store


@pytest.fixture(scope="module", params=["file", pytest.param("redis", marks=LONG)])
def guarded(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    loop_thread: LoopThread,
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with ExitStack() as stack:
        address, store = None, None
        if request.param == "redis":
            server = RedisServer(folder / "redis")
            server.start()
            stack.callback(server.close)
            address = parse_redis_url(server.url)
            store = _Seen(address)
        settings = settings_for_tests(folder, pool_size=3, bridge_redis_url=address)
        kept = store or key_store(settings)
        kept.add("first")
        running = RunningBridge(settings, loop_thread)
        running.start()
        stack.callback(running.stop)
        if store is not None:
            store.running = running
        guarded = Guarded(running, kept)
        stack.callback(guarded.close)
        yield guarded


every_api = pytest.mark.parametrize("api", list(APIS))


@every_api
def test_an_expired_key_is_refused_until_it_is_renewed(guarded: Guarded, api: str) -> None:
    name, ask = f"expiring-{api}", APIS[api]
    secret = guarded.file.add(name, expires_at=int(time.time()) + 3600)
    assert ask(guarded, secret, "hi") == OK
    guarded.file.edit(name, lambda key: replace(key, expires_at=1_000_000_000))
    refused = ask(guarded, secret, "hi")
    assert refused.status == "UNAUTHENTICATED"
    assert "expired on 2001-09-09 01:46 UTC" in refused.message
    assert f"bridge keys edit {name} --expires" in refused.message
    wrong = ask(guarded, f"{secret}x", "hi")
    assert (wrong.status, "expired" in wrong.message) == ("UNAUTHENTICATED", False)
    guarded.file.edit(name, lambda key: replace(key, expires_at=None))
    assert ask(guarded, secret, "hi") == OK


@every_api
def test_both_secrets_work_during_the_overlap_and_count_together(
    guarded: Guarded, api: str
) -> None:
    name, ask = f"rotated-{api}", APIS[api]
    old = guarded.file.add(name, limits=KeyLimits(per_minute=2))
    assert ask(guarded, old, "hi") == OK
    new = guarded.file.rotate(name, 3600)
    assert ask(guarded, new, "hi") == OK
    for secret in (old, new):
        over = ask(guarded, secret, "hi")
        assert (over.status, "2 requests per minute" in over.message) == (
            "RESOURCE_EXHAUSTED",
            True,
        )
    newest = guarded.file.rotate(name, 0)
    refused = ask(guarded, new, "hi")
    assert refused.status == "UNAUTHENTICATED"
    assert f"bridge keys rotate {name}" in refused.message
    assert ask(guarded, newest, "hi").status == "RESOURCE_EXHAUSTED"


def limited(per_minute: int) -> Callable[[Key], Key]:
    return lambda key: replace(key, limits=KeyLimits(per_minute=per_minute))


@every_api
def test_an_edit_loses_no_request_and_applies_to_the_next(guarded: Guarded, api: str) -> None:
    name, ask = f"edited-{api}", APIS[api]
    secret = guarded.file.add(name)
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(ask, guarded, secret, sim(tokens=30, delay_ms=10)) for _ in range(3)]
        for minute in range(1000, 1020):
            guarded.file.edit(name, limited(minute))
        assert [each.result() for each in running] == [OK] * 3
    guarded.file.edit(name, limited(1))
    replies = [ask(guarded, secret, "hi") for _ in range(5)]
    assert replies[-1].status == "RESOURCE_EXHAUSTED"
    guarded.file.edit(name, lambda key: replace(key, limits=KeyLimits()))
    assert ask(guarded, secret, "hi") == OK


def test_a_key_that_takes_a_revoked_ones_name_starts_with_nothing_of_it(guarded: Guarded) -> None:
    def stored(secret: str, **body: Any) -> httpx.Response:
        return guarded.http.post(
            "/v1/responses",
            json={"model": "default", "input": "hi", **body},
            headers={"authorization": f"Bearer {secret}"},
        )

    limits = KeyLimits(tokens_per_day=1)
    old = guarded.file.add("again", limits=limits)
    reply = stored(old)
    assert reply.status_code == 200
    assert stored(old).status_code == 429
    rotated = guarded.file.rotate("again", 0)
    # What was stored and counted is still the key's.
    assert stored(rotated, previous_response_id=reply.json()["id"]).status_code == 429
    guarded.file.revoke("again")
    new = guarded.file.add("again", limits=limits)
    assert stored(new, previous_response_id=reply.json()["id"]).status_code == 404
    assert stored(new).status_code == 200
    admin = guarded.file.add("op", KeyScope.ADMIN)
    guarded.running.call(guarded.running.bridge.service.booked)
    headers = {"authorization": f"Bearer {admin}"}
    used = guarded.http.get("/v1/usage", params={"by": "key"}, headers=headers).json()
    rows = {row["key"]: row["requests"] for row in used["data"] if "again" in row["key"]}
    assert rows == {"again": 1, "again#2": 1}
    metrics = guarded.http.get("/metrics", headers=headers).text
    series = 'bridge_key_requests_total{key="again#2",outcome="stop",payer="default"} 1.0'
    assert series in metrics.splitlines()


def test_the_last_use_is_stored_while_the_server_runs(guarded: Guarded) -> None:
    secret = guarded.file.add("used")
    began = int(time.time())
    assert APIS["chat"](guarded, secret, "hi") == OK
    access = guarded.running.bridge.access
    # As its end does; by itself it is stored within a minute.
    guarded.running.call(lambda: access._store_use(at_once=True))
    assert guarded.file.used()[guarded.file.ring().get("used").id] >= began
