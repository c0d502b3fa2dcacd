"""Both APIs through the proxies of deploy/, with limits that the silences of these tests exceed."""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from bridge.core.contract.request import CompletionRequest
from bridge.v1 import pool_pb2, pool_pb2_grpc
from tests.integration.grpc_server.by_hand import PREFACE, call
from tests.support.encoding import chat_body, proto
from tests.support.front_ends import Apis
from tests.support.grpc.client import Talk, create
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim
from tests.support.harness import user as asking
from tests.support.http.client import CHAT
from tests.support.replies import Failure
from tests.support.waiting import soon
from tests.system.proxies.recipes import (
    CALLS,
    KEY,
    LIMIT_SECONDS,
    NAME,
    PROXIES,
    Proxy,
    proxied,
    records,
)

SILENCE_SECONDS = 1.5 * LIMIT_SECONDS
both_kinds = pytest.mark.parametrize("kind", ["stream", "grpc"])


@pytest.fixture(scope="module", params=PROXIES)
def proxy(
    request: pytest.FixtureRequest,
    behind: RunningBridge,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp(request.param)
    with proxied(request.param, behind, folder) as running:
        yield running


@pytest.fixture
async def apis(proxy: Proxy) -> AsyncIterator[Apis]:
    async with proxy.connected() as connected:
        yield connected


# Caddy has no such limit.
@pytest.mark.parametrize(
    "proxy", ["nginx", "envoy", pytest.param("caddy", marks=LONG)], indirect=True
)
async def test_silent_streams_outlive_the_limits_of_a_proxy(proxy: Proxy, apis: Apis) -> None:
    """What is not streamed has no heartbeats: it shows that the limits are in force."""
    silent = sim(tokens=2, delay_ms=SILENCE_SECONDS * 1000)
    request = CompletionRequest((asking(silent),))
    stream, rpc, whole, unary, _, _ = await asyncio.gather(
        apis.call("stream", silent).finish(),
        apis.call("grpc", silent).finish(),
        apis.http.post(CHAT, json=chat_body(request)),
        create(apis.channel, proto(request)),
        _watch(apis),
        _converse(apis),
    )
    assert (stream.outcome, rpc.outcome) == ("w0 w1 ", "w0 w1 ")
    assert stream.comments >= 1
    assert rpc.comments >= 1
    if proxy.cut_as:
        assert whole.status_code in (408, 504), whole.text
        if whole.status_code == 504 and proxy.reports_errors:
            assert whole.json()["error"]["code"] == "timeout"
            assert whole.headers["x-should-retry"] == "false"
        assert unary.failure is not None
        assert unary.failure.status == proxy.cut_as
    else:
        assert whole.status_code == 200
        assert unary.outcome == "w0 w1 "


async def _watch(apis: Apis) -> None:
    call = pool_pb2_grpc.PoolServiceStub(apis.channel).WatchPool(pool_pb2.WatchPoolRequest())
    until = time.monotonic() + SILENCE_SECONDS
    while time.monotonic() < until:
        assert isinstance(await soon(call.read()), pool_pb2.WatchPoolResponse)
    call.cancel()


async def _converse(apis: Apis) -> None:
    """A conversation whose client is silent between turns, for which nginx has a limit, too."""
    talk = await Talk(apis.channel).open()
    until = time.monotonic() + SILENCE_SECONDS
    while time.monotonic() < until:
        await talk.until("heartbeat")
    assert (await talk.ask(sim(text="Still here."))).text == "Still here."
    await talk.end()


@LONG
@both_kinds
async def test_an_answer_longer_than_envoy_allows_by_default(apis: Apis, kind: str) -> None:
    text = await apis.ask(kind, sim(tokens=20, delay_ms=1000))
    assert str(text).endswith("w19 ")


async def test_a_call_outlives_the_connection_that_new_calls_use(apis: Apis) -> None:
    """nginx announces the end of a connection after a number of calls, here `CALLS`."""
    talk = await Talk(apis.channel).open()
    assert (await talk.ask(sim(text="One."))).text == "One."
    for _ in range(2 * CALLS):
        assert await apis.ask("grpc", sim(text="Served.")) == "Served."
    assert (await talk.ask(sim(text="Two."))).text == "Two."
    await talk.end()


@both_kinds
@pytest.mark.parametrize("tokens", [1, 3])
async def test_each_token_arrives_at_once_and_a_client_that_leaves_stops_the_answer(
    behind: RunningBridge, apis: Apis, kind: str, tokens: int
) -> None:
    mark = uuid.uuid4().hex
    # Nothing follows that would push them out.
    call = apis.call(kind, sim(tokens=tokens + 1, hang_after=tokens, note=mark))
    while call.reply.text != "".join(f"w{n} " for n in range(tokens)):
        assert await call.read()
    await call.leave()
    await behind.simulator.ledger.wait_for_async(
        lambda all: any(one.contains(mark) and one.ended == "client_closed" for one in all),
        PATIENCE,
    )


@pytest.mark.parametrize("kind", ["whole", "grpc"])
async def test_limits_and_errors_pass(apis: Apis, kind: str) -> None:
    late = await apis.ask(kind, sim(hang=True), limits={"first_token": 0.2})
    assert isinstance(late, Failure)
    assert late.reason.upper() == "FIRST_TOKEN_TIMEOUT"
    assert late.status == ("DEADLINE_EXCEEDED" if kind == "grpc" else 504)
    wrong = await apis.ask(kind, "")
    assert isinstance(wrong, Failure)
    assert wrong.status == ("INVALID_ARGUMENT" if kind == "grpc" else 400)
    assert wrong.field


async def test_the_time_that_a_client_gives_passes(apis: Apis) -> None:
    late = await apis.ask("whole", sim(hang=True), limits={"total": 0.2})
    assert isinstance(late, Failure)
    assert (late.status, late.reason) == (504, "timeout")


async def test_the_deadline_of_a_call_passes(behind: RunningBridge, proxy: Proxy) -> None:
    """Of a client by hand, which does not end the call itself at its deadline."""
    before = len(records(behind))
    message = proto(CompletionRequest((asking(sim(hang=True)),))).SerializeToString()
    headers = {":authority": NAME, "authorization": f"Bearer {KEY}", "grpc-timeout": "200m"}
    body = b"\0" + len(message).to_bytes(4, "big") + message
    trust = ssl.create_default_context(cadata=proxy.cert.decode())
    trust.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", proxy.port, ssl=trust, server_hostname=NAME
    )
    writer.write(PREFACE + call(1, "/bridge.v1.CompletionService/Complete", body, headers))
    async with asyncio.timeout(PATIENCE):
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            # A frame of headers that ends the stream of the call.
            if head[3:4] == b"\1" and head[4] & 1 and head[8] == 1:
                break
        record = await asyncio.to_thread(_wait_for_another, behind, before)
    writer.close()
    assert (record["api"], record["error"]) == ("grpc", "DEADLINE_EXCEEDED")


def _wait_for_another(bridge: RunningBridge, count: int) -> dict[str, Any]:
    """Wait for one more record than these: gRPC may have ended the call before the bridge."""
    until = time.monotonic() + PATIENCE
    while len(found := records(bridge)) == count:
        assert time.monotonic() < until
        time.sleep(0.01)
    return found[-1]


@both_kinds
async def test_a_request_larger_than_proxies_accept_by_default(apis: Apis, kind: str) -> None:
    assert await apis.ask(kind, "Hello. " * 300_000 + sim(text="Read.")) == "Read."


# The others stream a request: over HTTP/1.1 its client may find the connection closed.
@LONG
@pytest.mark.parametrize("proxy", ["nginx"], indirect=True)
async def test_the_bridge_itself_refuses_what_is_too_large(apis: Apis) -> None:
    body = chat_body(CompletionRequest((asking("x" * 33 * 1024 * 1024),)))
    refused = await apis.http.post(CHAT, json=body)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "request_too_large"


async def test_without_a_key_only_the_status_is_seen(apis: Apis) -> None:
    full = (await apis.http.get("/health")).json()
    assert full["status"] == "ok"
    assert "pool" in full
    public = await apis.http.get("/health", headers={"authorization": ""})
    assert public.json().keys() == {"status"}
