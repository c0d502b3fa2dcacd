"""The main job, through the real CLI on the simulator, as a user's own programs do it."""

from __future__ import annotations

import json

import grpc
import httpx
import openai

from bridge.v1 import completion_pb2 as pb
from bridge.v1 import model_pb2
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from bridge.v1.model_pb2_grpc import ModelServiceStub
from tests.integration.parity.scenarios import SCENARIOS, new_marker
from tests.support.apis import over_grpc, over_http
from tests.support.encoding import proto_messages
from tests.support.harness import PATIENCE, RunningBridge, sim, user

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def _client(bridge: RunningBridge) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{bridge.url}/v1", api_key="unused", timeout=PATIENCE)


def test_the_sync_client_gets_a_whole_answer(bridge: RunningBridge) -> None:
    with _client(bridge) as client:
        completion = client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": "Hello " + sim(text="Good day to you.")}],
        )
    assert completion.choices[0].message.content == "Good day to you."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model.startswith("claude-")
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 0
    assert completion.usage.completion_tokens > 0


async def test_the_async_client_streams(bridge: RunningBridge) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{bridge.url}/v1", api_key="unused", timeout=PATIENCE
    ) as client:
        stream = await client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": "Hello " + sim(text="Good day to you.")}],
            stream=True,
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == "Good day to you."


async def test_the_generated_async_stub_streams_from_started_to_finished(
    bridge: RunningBridge,
) -> None:
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        question = user("Hello " + sim(text="Good day to you."))
        request = pb.CompleteRequest(
            completion=pb.CompletionSpec(messages=proto_messages([question]))
        )
        call = CompletionServiceStub(channel).Complete(request, timeout=PATIENCE)
        responses = [response async for response in call]
    assert responses[0].event.WhichOneof("event") == "started"
    assert responses[-1].event.WhichOneof("event") == "finished"
    assert "".join(response.event.text_delta.text for response in responses) == "Good day to you."


def test_every_token_comes_when_it_comes(bridge: RunningBridge) -> None:
    # Without a pause between them, those that wait are joined over gRPC.
    for api, least in ((over_http, 200), (over_grpc, 1)):
        reply = api(bridge, BY_NAME["200 tokens"], new_marker())
        assert reply.chunks >= least
        assert reply.text.split() == [f"w{number}" for number in range(200)]


def test_the_first_token_comes_while_the_model_still_speaks(bridge: RunningBridge) -> None:
    marker = new_marker()
    with _client(bridge) as client:
        stream = client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": marker + sim(tokens=3, hang_after=2)}],
            stream=True,
        )
        texts = (chunk.choices[0].delta.content for chunk in stream)
        assert next(text for text in texts if text) == "w0 "
        (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
        assert exchange.ended is None
        stream.close()
    bridge.simulator.ledger.wait_for(
        lambda all_: any(x.number == exchange.number and x.ended == "client_closed" for x in all_),
        PATIENCE,
    )


def test_history_arrives_as_real_turns(bridge: RunningBridge) -> None:
    marker = new_marker()
    over_http(bridge, BY_NAME["a history"], marker)
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    turns = [
        (message["role"], "".join(block["text"] for block in message["content"]))
        for message in exchange.messages
        if message["role"] != "system"
    ]
    assert turns == [
        ("user", f"{marker} one"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "four"),
        ("user", "five " + sim(text="six")),
    ]


def test_a_system_message_is_the_system_prompt(bridge: RunningBridge) -> None:
    marker = new_marker()
    over_http(bridge, BY_NAME["a system prompt"], marker)
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert f"Be {marker}." in exchange.system_text
    assert "You are Claude Code, Anthropic's official CLI" not in exchange.system_text
    assert "system" not in exchange.roles[:1]


def test_without_a_system_message_the_preset_is_used(bridge: RunningBridge) -> None:
    marker = new_marker()
    over_grpc(bridge, BY_NAME["a question"], marker)
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert len(exchange.system_text) > 3_000


def test_a_conversation_carries_nothing_of_the_one_before(bridge: RunningBridge) -> None:
    markers = [new_marker() for _ in range(6)]
    for number, marker in enumerate(markers):
        api = over_http if number % 2 else over_grpc
        api(bridge, BY_NAME["a history"], marker)
        bridge.wait_until_settled()
    for marker in markers:
        (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
        text = json.dumps(exchange.body)
        assert [other for other in markers if other in text] == [marker]
        assert "/clear" not in text


def test_a_limit_of_one_request_does_not_hold_for_the_next(bridge: RunningBridge) -> None:
    over_http(bridge, BY_NAME["a limit"], new_marker())
    bridge.wait_until_settled()
    marker = new_marker()
    over_http(bridge, BY_NAME["a question"], marker)
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert exchange.body["max_tokens"] > 1_000


def test_it_names_itself_honestly_to_the_api(bridge: RunningBridge) -> None:
    marker = new_marker()
    over_http(bridge, BY_NAME["a question"], marker)
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert "claude-code-bridge/" in exchange.headers["user-agent"]


def test_both_apis_list_what_the_cli_offers(bridge: RunningBridge) -> None:
    with _client(bridge) as client:
        over_http = [model.id for model in client.models.list()]
        assert client.models.retrieve("anthropic/opus").id == "opus"
    with grpc.insecure_channel(bridge.target) as channel:
        stub = ModelServiceStub(channel)
        listed = stub.ListModels(model_pb2.ListModelsRequest(), timeout=PATIENCE).models
        opus = stub.GetModel(model_pb2.GetModelRequest(id="opus"), timeout=PATIENCE).model
    assert [model.id for model in listed] == over_http
    assert {"default", "opus", "sonnet", "haiku"} <= set(over_http)
    assert opus.resolved_model in over_http


def test_health_reports_pool_cli_and_login(bridge: RunningBridge) -> None:
    body = httpx.get(f"{bridge.url}/health", timeout=PATIENCE).json()
    assert body["status"] == "ok"
    assert body["cli_version"].count(".") == 2
    assert body["simulated"] is True
    assert body["pool"]["size"] == bridge.settings.pool_size


def test_the_session_log_has_one_line_a_request_and_no_word_of_it(bridge: RunningBridge) -> None:
    marker = new_marker()
    with _client(bridge) as client:
        response = client.chat.completions.with_raw_response.create(
            model="default", messages=[{"role": "user", "content": marker + sim(text="quiet")}]
        )
    lines = [json.loads(line) for line in bridge.log_path.read_text().splitlines()]
    (line,) = [line for line in lines if line["request_id"] == response.headers["x-request-id"]]
    assert line["api"] == "http"
    assert line["finish"] == "stop"
    assert line["model"].startswith("claude-")
    assert line["output_tokens"] > 0
    assert marker not in bridge.log_path.read_text()


def test_what_is_not_supported_is_refused_by_name(bridge: RunningBridge) -> None:
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "x"}],
        "n": 2,
    }
    response = httpx.post(f"{bridge.url}/v1/chat/completions", json=body, timeout=PATIENCE)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "n"
