"""The parts of an answer that was cut can be sent back, and the model continues."""

from __future__ import annotations

import json
from typing import Any

import grpc
import httpx
import pytest

from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.integration.parity.scenarios import new_marker
from tests.support.grpc.client import Talk
from tests.support.harness import PATIENCE, RunningBridge, sim

Json = dict[str, Any]

CALL = {"name": "look", "input": {"at": "x" * 200}, "fragment": 4}
WHOLE = sim(text="I look.", tools=[CALL], stop_reason="max_tokens")
"""Cut after a call whose arguments are all there."""
HALF = sim(text="I look.", tools=[CALL])
LIMIT = 20
"""Tokens: in the middle of the call."""

CUTS = pytest.mark.parametrize(
    ("said", "limit"), [(WHOLE, None), (HALF, LIMIT)], ids=["after a call", "in a call"]
)


def post(bridge: RunningBridge, path: str, body: Json) -> httpx.Response:
    response = httpx.post(bridge.url + path, json=body, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    return response


def reached(bridge: RunningBridge, marker: str) -> list[tuple[str, list[str]]]:
    """The conversation as it last reached the model: roles and kinds of blocks."""
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    return [
        (
            message["role"],
            ["text"]
            if isinstance(message["content"], str)
            else [block["type"] for block in message["content"]],
        )
        for message in exchange.messages
        if message["role"] != "system"
    ]


WITHOUT_THE_CALL = [("user", ["text"]), ("assistant", ["text"]), ("user", ["text"])]
WITH_THE_CALL = [
    ("user", ["text"]),
    ("assistant", ["text", "tool_use"]),
    ("user", ["tool_result"]),
]


@CUTS
def test_a_chat_continues_without_a_result(
    bridge: RunningBridge, said: str, limit: int | None
) -> None:
    marker = new_marker()
    body: Json = {
        "model": "default",
        "messages": [
            {"role": "system", "content": f"You are {marker}."},
            {"role": "user", "content": said},
        ],
        "tools": [{"type": "function", "function": {"name": "look"}}],
    }
    path = "/v1/chat/completions"
    first = post(bridge, path, {**body, "max_tokens": limit}).json()["choices"][0]
    assert first["finish_reason"] == "length"
    (call,) = first["message"]["tool_calls"]
    assert (call["function"]["arguments"] == json.dumps(CALL["input"])) is (limit is None)

    more = {"role": "user", "content": "Go on. " + sim(text="ok")}
    response = post(bridge, path, {**body, "messages": [*body["messages"], first["message"], more]})
    assert response.json()["choices"][0]["message"]["content"] == "ok"
    assert response.headers["x-bridge-ignored-params"] == "messages.tool_calls.function.arguments"
    assert reached(bridge, marker) == WITHOUT_THE_CALL


@CUTS
@pytest.mark.parametrize("answered", [True, False])
def test_a_response_is_continued_by_its_id(
    bridge: RunningBridge, said: str, limit: int | None, answered: bool
) -> None:
    marker = new_marker()
    body: Json = {
        "model": "default",
        "instructions": f"You are {marker}.",
        "tools": [{"type": "function", "name": "look"}],
    }
    first = post(
        bridge, "/v1/responses", {**body, "input": said, "max_output_tokens": limit}
    ).json()
    assert (first["status"], first["output"][-1]["status"]) == ("incomplete", "incomplete")

    call_id = first["output"][-1]["call_id"]
    result = {"type": "function_call_output", "call_id": call_id, "output": sim(text="ok")}
    more = {"role": "user", "content": "Go on. " + sim(text="ok")}
    second = post(
        bridge,
        "/v1/responses",
        {**body, "previous_response_id": first["id"], "input": [result if answered else more]},
    ).json()
    assert second["status"] == "completed"
    if not answered:
        assert second["output"][-1]["content"][0]["text"] == "ok"
    # Half a call had no effect, so its output is dropped: the answer is continued.
    assert reached(bridge, marker) == WITHOUT_THE_CALL


@CUTS
@pytest.mark.parametrize("answered", [True, False])
async def test_a_conversation_over_grpc_continues(
    bridge: RunningBridge, said: str, limit: int | None, answered: bool
) -> None:
    marker = new_marker()
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        talk = await Talk(channel, timeout=PATIENCE).open(
            system=f"You are {marker}.", tools=[pb.Tool(name="look")], max_output_tokens=limit
        )
        first = await talk.ask(said)
        assert first.finish == "length"
        (call,) = first.calls
        if answered:
            await talk.give(**{call.id: sim(text="ok")})
        else:
            await talk.say("Go on. " + sim(text="ok"))
        assert (await talk.turn()).text == "ok"
        assert await talk.end() is grpc.StatusCode.OK
    assert reached(bridge, marker) == (WITH_THE_CALL if answered else WITHOUT_THE_CALL)


async def test_a_history_over_grpc_continues_without_a_result(bridge: RunningBridge) -> None:
    marker = new_marker()
    call = pb.ToolCall(id="c1", name="look", arguments_json="{}")
    request = pb.CompleteRequest(
        completion=pb.CompletionSpec(
            system=f"You are {marker}.",
            messages=[
                pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="look")]),
                pb.Message(
                    role=pb.ROLE_ASSISTANT, parts=[pb.Part(text="I look."), pb.Part(tool_call=call)]
                ),
                pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="Go on. " + sim(text="ok"))]),
            ],
        )
    )
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        answer = pb_grpc.CompletionServiceStub(channel).Complete(request, timeout=PATIENCE)
        events = [event async for event in answer]
    assert "".join(event.event.text_delta.text for event in events) == "ok"
    assert list(events[0].event.started.ignored_params) == [
        "completion.messages.parts.tool_call.arguments_json"
    ]
    assert reached(bridge, marker) == WITHOUT_THE_CALL
