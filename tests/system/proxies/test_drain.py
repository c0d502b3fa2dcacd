"""A bridge that stops behind a proxy: running answers finish, new requests go elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.core.contract.request import CompletionRequest
from tests.support.encoding import chat_body
from tests.support.front_ends import Apis
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, sim
from tests.support.harness import user as asking
from tests.support.http.client import CHAT
from tests.support.replies import Failure
from tests.system.proxies.recipes import PROXIES, bridge_for_proxies, proxied


@pytest.fixture
def running(tmp_path: Path, loop_thread: LoopThread) -> Iterator[RunningBridge]:
    bridge = bridge_for_proxies(tmp_path / "state", loop_thread)
    bridge.start()
    yield bridge
    bridge.stop()


@pytest.mark.parametrize("kind", PROXIES)
async def test_answers_finish_and_new_requests_are_refused(
    kind: str, running: RunningBridge, tmp_path: Path
) -> None:
    with proxied(kind, running, tmp_path) as proxy:
        async with proxy.connected() as apis:
            answers = [apis.call(api, sim(tokens=40, delay_ms=25)) for api in ("stream", "grpc")]
            for answer in answers:
                await answer.until_text()
            draining = asyncio.create_task(
                asyncio.to_thread(running.call, lambda: running.bridge.drain(PATIENCE))
            )
            stopping = await _refused(apis)
            for answer in answers:
                assert (await answer.finish()).text.endswith("w39 ")
            await draining
            await asyncio.to_thread(running.stop)
            stopped = await _refused(apis)
            if proxy.reports_errors:
                reply = await apis.http.get("/v1/models")
                assert (reply.status_code, reply.json()["error"]["code"]) == (502, "bad_gateway")
    assert stopping.reason == "DRAINING"
    assert stopping.retry_after is not None
    # In the words of the proxy.
    assert stopped.reason == ""
    assert kind != "nginx" or stopped.message == "The bridge cannot be reached."


async def _refused(apis: Apis) -> Failure:
    """Ask until both APIs refuse; return how gRPC does."""
    body = chat_body(CompletionRequest((asking("Too late?"),)))
    async with asyncio.timeout(PATIENCE):
        while (reply := await apis.http.post(CHAT, json=body)).status_code == 200:
            pass
        assert reply.status_code in (502, 503)
        while isinstance(refused := await apis.ask("grpc", "Too late?"), str):
            pass
    assert refused.status == "UNAVAILABLE", refused
    return refused
