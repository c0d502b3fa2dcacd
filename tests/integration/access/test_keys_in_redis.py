"""Keys that several servers share in Redis, and what happens while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from typing import Any

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.core.access.keys import KeyFile, KeyLimits, RedisKeys
from bridge.core.contract.errors import AuthenticationError
from bridge.core.redis import RedisAddress, parse_redis_url
from bridge.server import StartError, access_of, redis_link
from bridge.server.front_ends import open_listeners
from tests.support.every_api import APIS, OK, Client
from tests.support.harness import LONG, RunningBridge, settings_for_tests
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, soon

Start = Callable[..., RunningBridge]
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
GIVEN = "env-secret-that-is-long-enough"


@pytest.fixture
def address(redis_server: RedisServer) -> RedisAddress:
    return parse_redis_url(redis_server.url)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def client_of(running: RunningBridge, stack: ExitStack) -> Client:
    client = Client(running)
    stack.callback(client.close)
    return client


def statuses(client: Client, secret: str) -> set[str]:
    """What every API says to a secret."""
    return {ask(client, secret, "hi").status for ask in APIS.values()}


def health(client: Client) -> int:
    """What grpc.health.v1 reports."""
    stub: Any = HealthStub(client.channel)
    return int(stub.Check(HealthCheckRequest()).status)


@LONG
def test_every_server_follows_each_change(
    start_bridge: Start, address: RedisAddress, stack: ExitStack
) -> None:
    bridges = [start_bridge(bridge_redis_url=address, pool_size=1) for _ in range(2)]
    clients = [client_of(bridge, stack) for bridge in bridges]
    store = RedisKeys(address)
    # As long as there is no key, none is needed.
    for client in clients:
        assert statuses(client, "none") == {"ok"}
    secret = store.add("phone")
    for client in clients:
        eventually(lambda client=client: statuses(client, "none") == {"UNAUTHENTICATED"})  # type: ignore[misc]
        assert statuses(client, secret) == {"ok"}
    for models in (("haiku",), ()):
        changed = replace(store.ring().get("phone"), limits=KeyLimits(models=models))
        store.edit("phone", lambda key, changed=changed: changed)  # type: ignore[misc]
        for bridge in bridges:
            limits = bridge.bridge.access.limits_of
            eventually(lambda limits=limits, new=models: limits("phone").models == new)  # type: ignore[misc]
    new = store.rotate("phone", 0)
    for client in clients:
        eventually(lambda client=client: statuses(client, secret) == {"UNAUTHENTICATED"})  # type: ignore[misc]
        eventually(lambda client=client: statuses(client, new) == {"ok"})  # type: ignore[misc]
    store.revoke("phone")
    for client in clients:
        eventually(lambda client=client: statuses(client, new) == {"UNAUTHENTICATED"})  # type: ignore[misc]


@LONG
def test_while_redis_is_away_known_keys_go_on_and_no_other(
    start_bridge: Start, address: RedisAddress, redis_server: RedisServer, stack: ExitStack
) -> None:
    store = RedisKeys(address)
    secret = store.add("phone")
    revoked = store.add("laptop")
    store.revoke("laptop")
    bridge = start_bridge(bridge_redis_url=address)
    client = client_of(bridge, stack)
    assert statuses(client, secret) == {"ok"}
    redis_server.kill()
    eventually(lambda: not bridge.bridge.access._store._link.up)  # type: ignore[union-attr]
    assert statuses(client, secret) == {"ok"}
    for wrong in (revoked, "wrong-secret-that-is-long-enough"):
        assert statuses(client, wrong) == {"UNAUTHENTICATED"}
    # It comes back without its data, and gets the keys back.
    redis_server.start()
    eventually(lambda: [key.name for key in store.read()] == ["phone"])
    assert statuses(client, secret) == {"ok"}
    store.revoke("phone")
    eventually(lambda: statuses(client, secret) == {"UNAUTHENTICATED"})


def test_a_server_that_never_saw_the_keys_refuses_until_it_does(
    start_bridge: Start, address: RedisAddress, redis_server: RedisServer, stack: ExitStack
) -> None:
    redis_server.kill()
    bridge = start_bridge(bridge_redis_url=address, bridge_api_keys=f"given={GIVEN}")
    client = client_of(bridge, stack)
    for secret in ("none", "sk-bridge-unknown"):
        assert statuses(client, secret) == {"UNAVAILABLE"}
    refused = APIS["chat"](client, "none", "hi")
    assert "not been able to read its API keys" in refused.message
    reply = client.http.get("/v1/models")
    assert reply.json()["error"]["code"] == "keys_unavailable"
    assert (reply.headers["retry-after"], reply.headers["x-bridge-error"]) == (
        "1",
        "KEYS_UNAVAILABLE",
    )
    ready = client.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "starting")
    assert health(client) == NOT_SERVING
    # Those of its own environment are known.
    assert statuses(client, GIVEN) == {"ok"}
    redis_server.start()
    secret = RedisKeys(address).add("phone")
    eventually(lambda: statuses(client, secret) == {"ok"})
    assert statuses(client, "none") == {"UNAUTHENTICATED"}
    assert client.http.get("/readyz").status_code == 200
    eventually(lambda: health(client) == SERVING)


async def test_a_server_for_other_machines_never_opens(
    address: RedisAddress, redis_server: RedisServer, tmp_path: Any
) -> None:
    redis_server.kill()
    settings = settings_for_tests(tmp_path, host="192.0.2.1", bridge_redis_url=address)
    async with AsyncExitStack() as stack:
        link = await redis_link(settings, stack)
        access = await access_of(settings, link)
        # It may start, since there may be keys.
        open_listeners(settings, access, http=False, grpc=True)
        redis_server.start()
        assert link is not None
        up = asyncio.Event()
        link.follow(lambda now: up.set())
        await soon(up.wait())
        known = asyncio.Event()
        access.on_known = known.set
        async with access.following(0.01):
            await soon(known.wait())
        with pytest.raises(AuthenticationError):
            access.authenticate(None)
        # Now that there is none, it may not.
        with pytest.raises(StartError):
            open_listeners(settings, await access_of(settings, link), http=False, grpc=True)


@LONG
def test_without_any_key_a_server_on_loopback_opens_once_that_is_known(
    start_bridge: Start, address: RedisAddress, redis_server: RedisServer, stack: ExitStack
) -> None:
    redis_server.kill()
    client = client_of(start_bridge(bridge_redis_url=address), stack)
    assert statuses(client, "none") == {"UNAVAILABLE"}
    redis_server.start()
    eventually(lambda: statuses(client, "none") == {"ok"})


def run(address: RedisServer, state: Any, *arguments: str) -> Result:
    env = {"BRIDGE_STATE_DIR": str(state), "BRIDGE_REDIS_URL": address.url}
    return CliRunner().invoke(app, ("keys", *arguments), env=env)


def test_a_file_of_keys_is_imported_and_never_forgotten(
    start_bridge: Start,
    tmp_path: Any,
    address: RedisAddress,
    redis_server: RedisServer,
    stack: ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state = tmp_path / "state0"
    file = KeyFile(state / "keys.json")
    secret = file.add("phone")
    client = client_of(start_bridge(bridge_redis_url=address), stack)
    # Its keys are not used, but nothing is open that was not.
    for sent in ("none", secret):
        assert statuses(client, sent) == {"UNAUTHENTICATED"}
    assert f"bridge keys import {file.path}" in caplog.text
    for said in ("phone", "nothing new"):
        imported = run(redis_server, state, "import", str(file.path))
        assert imported.exit_code == 0, imported.output
        assert f"Imported into Redis at {address}: {said}." in imported.stdout
    eventually(lambda: APIS["chat"](client, secret, "hi") == OK)
    assert "phone" in run(redis_server, state, "list").stdout
    assert RedisKeys(address).read() == file.read()


def test_commands_use_redis_too(tmp_path: Any, redis_server: RedisServer) -> None:
    assert run(redis_server, tmp_path, "add", "phone", "--mine").exit_code == 0
    assert run(redis_server, tmp_path, "edit", "phone", "--per-minute", "9").exit_code == 0
    assert run(redis_server, tmp_path, "rotate", "phone").exit_code == 0
    assert "9 per minute, old secret valid" in run(redis_server, tmp_path, "list").stdout
    assert not (tmp_path / "keys.json").exists()
    revoked = run(redis_server, tmp_path, "revoke", "phone")
    assert "delete claude-code-bridge:1:keys in Redis" in revoked.stderr
    redis_server.kill()
    away = run(redis_server, tmp_path, "revoke", "phone")
    assert away.exit_code == 1
    (line,) = away.stderr.splitlines()
    assert "unavailable" in line
    missing = run(redis_server, tmp_path, "import", str(tmp_path / "nothing.json"))
    assert "does not exist" in missing.stderr


@LONG
def test_a_file_that_is_named_is_used_beside_redis(
    start_bridge: Start, tmp_path: Any, address: RedisAddress, stack: ExitStack
) -> None:
    file = KeyFile(tmp_path / "mounted" / "keys.json")
    secret = file.add("phone")
    bridge = start_bridge(bridge_redis_url=address, bridge_keys_file=file.path)
    assert statuses(client_of(bridge, stack), secret) == {"ok"}
    assert RedisKeys(address).read() == ()


def test_keys_of_a_newer_version_stop_the_start(
    start_bridge: Start, address: RedisAddress, redis_server: RedisServer
) -> None:
    RedisKeys(address).add("phone")
    text = '{"version": 9, "keys": []}'
    redis_server.command("HSET", "claude-code-bridge:1:keys", "text", text)
    with pytest.raises(StartError, match="newer version"):
        start_bridge(bridge_redis_url=address)
