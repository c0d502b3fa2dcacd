"""Stopping before paid extra usage, at both APIs, based on the API's reports in its answers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import httpx
import pytest

from bridge.v1 import completion_pb2 as pb
from bridge.v1 import pool_pb2
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from bridge.v1.pool_pb2_grpc import PoolServiceStub
from tests.support.grpc.client import question
from tests.support.grpc.details import details_of
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim

HEADER = "anthropic-ratelimit-unified-"
HOUR = 3600


def limits(status: str, reset: float, **more: str) -> dict[str, str]:
    """Return the headers in which the API reports the state of the plan."""
    named = {
        "status": status,
        "reset": str(int(reset)),
        "representative-claim": "five_hour",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return {f"{HEADER}{name}": value for name, value in named.items()}


def on_extra_usage(reset: float) -> dict[str, str]:
    return limits("rejected", reset, overage_status="allowed", overage_in_use="true")


class Guarded:
    """A bridge that stops before extra usage, with a clock that a test can advance."""

    def __init__(self, running: RunningBridge) -> None:
        self.running = running
        self.ahead = 0.0
        running.bridge.engine.usage_limits._now = lambda: time.time() + self.ahead

    def post(self, text: str) -> httpx.Response:
        body = {"messages": [{"role": "user", "content": text}]}
        url = f"{self.running.url}/v1/chat/completions"
        return httpx.post(url, json=body, timeout=PATIENCE, trust_env=False)

    def health(self) -> httpx.Response:
        return httpx.get(f"{self.running.url}/health", timeout=PATIENCE, trust_env=False)

    def pool(self) -> pool_pb2.Pool:
        with grpc.insecure_channel(self.running.target) as channel:
            return PoolServiceStub(channel).GetPool(pool_pb2.GetPoolRequest()).pool

    def said(self, status: str) -> None:
        """Wait until the bridge is in this state: the API's report arrives after the answer."""

        async def wait() -> None:
            engine = self.running.bridge.engine
            while engine.health().status != status:
                await engine.pool.changed()

        self.running.call(wait)


@pytest.fixture
def guarded(tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread) -> Iterator[Guarded]:
    state = tmp_path_factory.mktemp("overage")
    running = RunningBridge(
        settings_for_tests(state, bridge_stop_before_overage=True, bridge_spares=0), loop_thread
    )
    running.start()
    yield Guarded(running)
    running.stop()


def test_serving_stops_until_the_limit_is_lifted(guarded: Guarded) -> None:
    reset = time.time() + HOUR
    first = guarded.post("first " + sim(text="paid", headers=on_extra_usage(reset)))
    # Requests that run when extra usage begins are paid for already, and are not cut.
    assert first.json()["choices"][0]["message"]["content"] == "paid"
    guarded.said("overage_ahead")

    refused = guarded.post("second")
    assert refused.status_code == 429
    assert "BRIDGE_STOP_BEFORE_OVERAGE" in refused.json()["error"]["message"]
    assert HOUR - 60 < int(refused.headers["retry-after"]) <= HOUR
    assert refused.headers["x-should-retry"] == "false"
    health = guarded.health()
    assert (health.status_code, health.json()["status"]) == (503, "overage_ahead")
    plan = health.json()["plan"]
    assert plan["using_overage"]
    assert (plan["resets_at"], plan["overage_status"]) == (int(reset), "allowed")
    assert guarded.pool().status == pool_pb2.Pool.STATUS_OVERAGE_AHEAD
    assert guarded.pool().plan.overage_status == pool_pb2.Plan.STATUS_ALLOWED

    # Not one more has reached the model, on whichever process.
    assert not list(guarded.running.simulator.ledger.exchanges(containing="second"))

    guarded.ahead = HOUR + 5
    # The first one after the reset finds that the limit is lifted.
    later = limits("allowed", time.time() + 3 * HOUR)
    assert guarded.post("third " + sim(text="free", headers=later)).status_code == 200
    guarded.said("ok")
    assert guarded.post("fourth").status_code == 200


async def test_it_stops_at_the_grpc_api_too(guarded: Guarded) -> None:
    full = limits(
        "allowed",
        time.time() + HOUR,
        **{"5h_utilization": "0.99", "5h_reset": str(int(time.time()) + HOUR)},
    )
    async with grpc.aio.insecure_channel(guarded.running.target) as channel:
        stub = CompletionServiceStub(channel)
        # Nothing is paid for yet, but the next answer would be.
        nearly = question()
        nearly.completion.messages[0].parts[0].text = sim(text="free", headers=full)
        events = [event async for event in stub.Complete(nearly, timeout=PATIENCE)]
        assert events[-1].event.HasField("finished")
        guarded.said("overage_ahead")

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in stub.Complete(question(), timeout=PATIENCE):
                pass
        details = await details_of(refused.value)
        assert details.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details.info.reason == "OVERAGE_AHEAD"
        assert HOUR - 60 < details.retry.retry_delay.seconds <= HOUR

        talk = stub.Converse(timeout=PATIENCE)
        await talk.write(pb.ConverseRequest(open=pb.OpenConversation()))
        said = pb.UserMessage(parts=[pb.Part(text="Hello?")])
        await talk.write(pb.ConverseRequest(message=said))
        failed = await talk.read()
        assert isinstance(failed, pb.ConverseResponse)
        assert b"OVERAGE_AHEAD" in failed.turn_failed.details[0].value
