"""What Envoy adds: retries, and gRPC-Web for pages."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from bridge.core.contract.errors import (
    BridgeError,
    DrainingError,
    PlanLimitError,
    QueueFullError,
)
from bridge.core.contract.request import CompletionRequest
from bridge.grpc_server.call_context import FIRST_TOKEN_TIMEOUT_KEY
from bridge.v1 import completion_pb2 as pb
from tests.support.encoding import proto
from tests.support.fakes import FakeService
from tests.support.front_ends import KINDS, Apis, both_apis
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, sim
from tests.support.harness import user as asking
from tests.support.replies import Failure
from tests.system.proxies.grpc_web import COMPLETE, PAGE, complete_from_a_page
from tests.system.proxies.recipes import (
    LIMIT_SECONDS,
    NAME,
    Proxy,
    bridge_for_proxies,
    proxied,
    records,
)

# Refuses connections: no machine has had the discard service for decades.
_NOBODY: Final = "endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9}}}"
both_kinds = pytest.mark.parametrize("kind", ["stream", "grpc"])


@pytest.fixture(scope="module")
def behind(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    """A bridge that announces the end of gRPC connections (GOAWAY) while their calls go on."""
    running = bridge_for_proxies(
        tmp_path_factory.mktemp("state"),
        loop_thread,
        bridge_allowed_origins=(PAGE,),
        bridge_grpc_max_connection_age=1,
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def envoy(behind: RunningBridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """An Envoy for which each API has a second server, which is not there."""

    def with_another(recipe: str) -> str:
        return recipe.replace("lb_endpoints:\n", f"lb_endpoints:\n{' ' * 14}- {_NOBODY}\n")

    with proxied("envoy", behind, tmp_path_factory.mktemp("envoy"), with_another) as running:
        yield running


@pytest.fixture
async def apis(envoy: Proxy) -> AsyncIterator[Apis]:
    async with envoy.connected() as both:
        yield both


def request(text: str) -> pb.CompleteRequest:
    return proto(CompletionRequest((asking(text),)))


@both_kinds
async def test_a_call_that_a_server_refuses_goes_to_another_once(
    behind: RunningBridge, apis: Apis, kind: str
) -> None:
    for _ in range(4):
        mark = uuid.uuid4().hex
        assert await apis.ask(kind, sim(text="Served.", note=mark)) == "Served."
        assert len(behind.simulator.ledger.exchanges(containing=mark)) == 1


@both_kinds
@pytest.mark.parametrize("fault", [{"error": "server"}, {"tokens": 3, "error_after": 1}])
async def test_what_reached_a_server_is_not_repeated(
    behind: RunningBridge, apis: Apis, kind: str, fault: dict[str, Any]
) -> None:
    before = len(records(behind))
    assert isinstance(await apis.ask(kind, sim(**fault)), Failure)
    assert len(records(behind)) == before + 1


def _retrying(recipe: str, ports: tuple[int, int], other: Apis) -> str:
    """A file with a second server of each API, which retries what that refuses for two reasons."""
    if "retriable_headers" not in recipe:
        headers = ", ".join(
            f"{{name: x-bridge-error, string_match: {{exact: {reason}}}}}"
            for reason in ("DRAINING", "QUEUE_FULL")
        )
        recipe, changed = re.subn(
            r"( *)retry_on: .*",
            rf"\1retry_on: connect-failure,refused-stream,retriable-headers\n"
            rf"\1retriable_headers: [{headers}]",
            recipe,
        )
        assert changed == 1
    for own, more in zip(
        ports, (urlsplit(other.url).port, other.target.rpartition(":")[2]), strict=True
    ):
        recipe, changed = re.subn(
            rf"( *- endpoint: .*port_value: ){own}(\b.*)", rf"\g<0>\n\g<1>{more}\g<2>", recipe
        )
        assert changed == 1
    return recipe


@pytest.mark.parametrize(
    ("error", "retried"),
    [(DrainingError("a"), True), (QueueFullError("a"), True), (PlanLimitError("a"), False)],
    ids=["draining", "queue full", "plan limit"],
)
async def test_only_what_another_server_may_answer_is_retried_by_the_header(
    behind: RunningBridge, tmp_path: Path, error: BridgeError, retried: bool
) -> None:
    async with both_apis(FakeService(error), hosts=(NAME,)) as other:
        ports = behind.bridge.http_port, behind.bridge.grpc_port
        with proxied(
            "envoy", behind, tmp_path, lambda recipe: _retrying(recipe, ports, other)
        ) as running:
            async with running.connected() as both:
                for kind in KINDS:
                    outcomes = [await both.ask(kind, sim(text="Served.")) for _ in range(4)]
                    failures = [each for each in outcomes if each != "Served."]
                    assert (failures == []) is retried, kind


async def test_a_page_gets_every_token_at_once_and_leaves(
    behind: RunningBridge, envoy: Proxy
) -> None:
    mark = uuid.uuid4().hex
    prompt = sim(tokens=3, hang_after=2, note=mark)
    async with envoy.client() as client, complete_from_a_page(client, request(prompt)) as call:
        while call.reply.text != "w0 w1 ":
            assert await call.read()
    await behind.simulator.ledger.wait_for_async(
        lambda all: any(one.contains(mark) and one.ended == "client_closed" for one in all),
        PATIENCE,
    )


async def test_a_page_waits_longer_than_the_limit_of_the_proxy_and_its_connection(
    envoy: Proxy,
) -> None:
    prompt = sim(tokens=2, delay_ms=1500 * LIMIT_SECONDS)
    async with envoy.client() as client, complete_from_a_page(client, request(prompt)) as call:
        assert (await call.finish()).outcome == "w0 w1 "


@pytest.mark.parametrize(
    ("limit", "reason"),
    [({"grpc_timeout": "200m"}, ""), ({FIRST_TOKEN_TIMEOUT_KEY: "0.2"}, "FIRST_TOKEN_TIMEOUT")],
)
async def test_the_limits_of_a_page_and_errors_pass(
    envoy: Proxy, limit: dict[str, str], reason: str
) -> None:
    silent = request(sim(hang=True))
    async with envoy.client() as client, complete_from_a_page(client, silent, **limit) as call:
        failure = (await call.finish()).failure
    assert failure is not None
    assert failure.status == "DEADLINE_EXCEEDED"
    # At the deadline of a call gRPC may end it itself, without details.
    assert failure.reason == reason or not reason


@pytest.mark.parametrize(("origin", "allowed"), [(PAGE, PAGE), ("https://evil.example", None)])
async def test_a_page_asks_before_its_call(envoy: Proxy, origin: str, allowed: str | None) -> None:
    preflight = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": ",".join(
            ("authorization", "content-type", "x-grpc-web", "grpc-timeout", FIRST_TOKEN_TIMEOUT_KEY)
        ),
    }
    async with envoy.client() as client:
        answer = await client.options(COMPLETE, headers=preflight)
    assert answer.headers.get("access-control-allow-origin") == allowed
    if allowed:
        permitted = set(answer.headers["access-control-allow-headers"].split(","))
        assert permitted >= set(preflight["access-control-request-headers"].split(","))
