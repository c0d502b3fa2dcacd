"""The name of a server among several: in every reply, and in what its operator reads."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import httpx
import pytest

from bridge.v1 import completion_pb2 as pb
from bridge.v1 import model_pb2, pool_pb2
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from bridge.v1.model_pb2_grpc import ModelServiceStub
from bridge.v1.pool_pb2_grpc import PoolServiceStub
from tests.support.grpc.client import Talk
from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim

NAME = "bridge-7"
HEADER = "x-bridge-replica"


@pytest.fixture(scope="module")
def named(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    settings = settings_for_tests(
        tmp_path_factory.mktemp("state"), pool_size=1, bridge_spares=0, bridge_replica=NAME
    )
    running = RunningBridge(settings, loop_thread)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def http(named: RunningBridge) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=named.url, timeout=PATIENCE, trust_env=False) as client:
        yield client


@pytest.fixture
def channel(named: RunningBridge) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(named.target) as channel:
        yield channel


def asked(text: str) -> pb.CompletionSpec:
    return pb.CompletionSpec(
        messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=sim(text=text))])]
    )


def test_every_reply_over_http_has_it(http: httpx.Client) -> None:
    body = {"model": "default", "messages": [{"role": "user", "content": sim(text="hi")}]}
    replies = [
        (http.get("/health"), 200),
        (http.get("/"), 200),
        (http.post("/v1/chat/completions", json=body), 200),
        (http.post("/v1/chat/completions", json={**body, "stream": True}), 200),
        (http.post("/v1/messages", json=body), 400),
        (http.get("/nowhere"), 404),
        (http.put("/v1/models"), 405),
        (http.get("/health", headers={"host": "elsewhere.example"}), 403),
        (http.get("/health", headers={"x": "y" * 100_000}), 400),
    ]
    for reply, status in replies:
        assert (reply.status_code, reply.headers.get(HEADER)) == (status, NAME), reply.url
        # Of errors before there is a request as well.
        assert ("x-bridge-error" in reply.headers) is (status >= 400), reply.url


def test_every_reply_over_grpc_has_it_whether_it_succeeds_or_not(channel: grpc.Channel) -> None:
    stub = CompletionServiceStub(channel)
    request = pb.CreateCompletionRequest(completion=asked("hi"))
    whole, call = stub.CreateCompletion.with_call(request, timeout=PATIENCE)
    assert whole.replica == NAME
    assert (HEADER, NAME) in call.initial_metadata()

    streamed = stub.Complete(pb.CompleteRequest(completion=asked("hi")), timeout=PATIENCE)
    started = next(iter(streamed)).event.started
    assert started.replica == NAME
    assert (HEADER, NAME) in streamed.initial_metadata()

    with pytest.raises(grpc.RpcError) as refused:
        ModelServiceStub(channel).GetModel(model_pb2.GetModelRequest(id="no"), timeout=PATIENCE)
    metadata = {each.key: each.value for each in refused.value.trailing_metadata()}
    assert str(metadata[HEADER]) == NAME


async def test_a_turn_of_a_conversation_has_it_even_if_it_is_cancelled_early(
    named: RunningBridge,
) -> None:
    async with grpc.aio.insecure_channel(named.target) as channel:
        talk = await Talk(channel).open()
        await talk.say(sim(hang=True))
        await talk.cancel_turn()
        assert (await talk.until("started")).event.started.replica == NAME
        assert dict(await talk.call.initial_metadata())[HEADER] == NAME


def test_a_conversations_id_for_balancers_changes_nothing_and_goes_no_further(
    named: RunningBridge, http: httpx.Client, channel: grpc.Channel
) -> None:
    own = "not-for-the-api, " * 20 + "%"
    body = {"model": "default", "messages": [{"role": "user", "content": sim(text="hi")}]}
    headers = {"x-conversation-id": own, "x-bridge-strict": "true"}
    assert http.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    request = pb.CreateCompletionRequest(completion=asked("hi"))
    metadata = (("x-conversation-id", own),)
    reply = CompletionServiceStub(channel).CreateCompletion(
        request, timeout=PATIENCE, metadata=metadata
    )
    assert reply.text == "hi"
    exchanges = named.simulator.ledger.exchanges()
    assert len(exchanges) >= 2
    for exchange in exchanges:
        assert "not-for-the-api" not in str((exchange.headers, exchange.body))


def test_its_operator_reads_it_everywhere(
    named: RunningBridge, http: httpx.Client, channel: grpc.Channel
) -> None:
    request = pb.CreateCompletionRequest(completion=asked("hi"))
    CompletionServiceStub(channel).CreateCompletion(request, timeout=PATIENCE)
    assert http.get("/health").json()["replica"] == NAME
    assert http.get("/bridge/state").json()["replica"] == NAME
    pool = PoolServiceStub(channel).GetPool(pool_pb2.GetPoolRequest(), timeout=PATIENCE).pool
    assert pool.replica == NAME
    watch = PoolServiceStub(channel).WatchPool(pool_pb2.WatchPoolRequest(), timeout=PATIENCE)
    assert next(iter(watch)).pool.replica == NAME
    watch.cancel()
    (info,) = [
        line for line in http.get("/metrics").text.splitlines() if line.startswith("bridge_info{")
    ]
    assert f'replica="{NAME}"' in info
    lines = [json.loads(line) for line in named.log_path.read_text().splitlines()]
    assert lines
    assert {line["replica"] for line in lines} == {NAME}
