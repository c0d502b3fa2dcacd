"""Two servers on one Redis: what was made on one is there on the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from openai import APIStatusError, OpenAI
from openai.types.responses import FunctionToolParam

from bridge.core.redis import parse_redis_url
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.grpc.details import details_in
from tests.support.harness import LONG, RunningBridge, sim
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

TOOL: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture
def fleet(
    redis_server: RedisServer, start_bridge: Callable[..., RunningBridge]
) -> tuple[RunningBridge, RunningBridge]:
    url = parse_redis_url(redis_server.documented_user())
    one, two = (start_bridge(bridge_redis_url=url, bridge_replica=name) for name in ("one", "two"))
    return one, two


@pytest.fixture
def clients(fleet: tuple[RunningBridge, RunningBridge]) -> tuple[OpenAI, OpenAI]:
    one, two = (
        OpenAI(base_url=f"{each.url}/v1", api_key="unused", max_retries=0) for each in fleet
    )
    return one, two


def test_a_response_is_continued_retrieved_and_deleted_on_another(
    clients: tuple[OpenAI, OpenAI], fleet: tuple[RunningBridge, RunningBridge]
) -> None:
    one, two = clients
    first = one.responses.create(model="opus", input="The word is heron.")
    then = two.responses.create(
        model="opus", input="And the number is four.", previous_response_id=first.id
    )
    (seen,) = fleet[1].simulator.ledger.exchanges(containing="number is four")
    assert "The word is heron." in str(seen.body["messages"])
    assert two.responses.retrieve(first.id).output_text == first.output_text
    items = one.responses.input_items.list(then.id)
    assert len(items.data) == 3
    two.responses.delete(first.id)
    with pytest.raises(APIStatusError) as raised:
        one.responses.retrieve(first.id)
    assert raised.value.status_code == 404


def test_the_result_of_a_tool_is_given_to_another(
    clients: tuple[OpenAI, OpenAI], fleet: tuple[RunningBridge, RunningBridge]
) -> None:
    one, two = clients
    call = {"name": "get_weather", "input": {"city": "Bern"}}
    asked = one.responses.create(model="opus", input=sim(tools=[call]), tools=[TOOL])
    (wanted,) = [item for item in asked.output if item.type == "function_call"]
    answer = two.responses.create(
        model="opus",
        previous_response_id=asked.id,
        input=[{"type": "function_call_output", "call_id": wanted.call_id, "output": "21 degrees"}],
        tools=[TOOL],
    )
    assert answer.status == "completed"
    (seen,) = fleet[1].simulator.ledger.exchanges(containing="21 degrees")
    assert wanted.call_id in str(seen.body["messages"])


@LONG
def test_a_conversation_is_one_on_both(clients: tuple[OpenAI, OpenAI]) -> None:
    one, two = clients
    made = one.conversations.create(metadata={"topic": "birds"})
    one.responses.create(model="opus", input="one", conversation=made.id)
    two.responses.create(model="opus", input="two", conversation=made.id)
    assert two.conversations.retrieve(made.id).metadata == {"topic": "birds"}
    items: list[Any] = [
        item.to_dict() for item in one.conversations.items.list(made.id, order="asc")
    ]
    said = [item["content"][0]["text"] for item in items if item["role"] == "user"]
    assert said == ["one", "two"]
    assert len(items) == 4


@LONG
def test_a_request_id_is_answered_once(clients: tuple[OpenAI, OpenAI]) -> None:
    one, two = clients
    headers = {"Idempotency-Key": "order-1"}
    one.responses.create(model="opus", input="Hello.", extra_headers=headers)
    with pytest.raises(APIStatusError) as raised:
        two.responses.create(model="opus", input="Hello.", extra_headers=headers)
    assert (raised.value.status_code, raised.value.code) == (409, "request_id_in_use")


def test_a_background_response_is_seen_by_all_and_ended_by_its_own_server(
    clients: tuple[OpenAI, OpenAI], fleet: tuple[RunningBridge, RunningBridge]
) -> None:
    one, two = clients
    begun = one.responses.create(
        model="opus", input=sim(endless=True, delay_ms=20), background=True
    )
    assert two.responses.retrieve(begun.id).status in ("queued", "in_progress")
    for elsewhere in (
        lambda: two.responses.retrieve(begun.id, stream=True),
        lambda: two.responses.cancel(begun.id),
        lambda: two.responses.delete(begun.id),
    ):
        with pytest.raises(APIStatusError) as raised:
            elsewhere()
        assert (raised.value.status_code, raised.value.code) == (409, "answer_elsewhere")
        assert f"'{begun.id}' belongs to the server 'one'" in raised.value.message
        assert raised.value.response.headers["x-bridge-found-on"] == "one"
        assert raised.value.response.headers["x-bridge-replica"] == "two"
    assert one.responses.cancel(begun.id).status == "cancelled"
    assert two.responses.retrieve(begun.id).status == "cancelled"
    assert two.responses.cancel(begun.id).status == "cancelled"


@LONG
def test_a_background_response_ends_for_all(clients: tuple[OpenAI, OpenAI]) -> None:
    one, two = clients
    begun = one.responses.create(model="opus", input=sim(text="Done."), background=True)
    eventually(lambda: two.responses.retrieve(begun.id).status == "completed")
    then = two.responses.create(model="opus", input="And now?", previous_response_id=begun.id)
    assert then.status == "completed"
    two.responses.delete(begun.id)


@LONG
def test_a_background_response_of_a_server_that_is_gone_has_failed(
    clients: tuple[OpenAI, OpenAI], redis_server: RedisServer
) -> None:
    one, two = clients
    begun = one.responses.create(
        model="opus", input=sim(endless=True, delay_ms=20), background=True
    )
    # What is left of a server that was killed, once its time has passed: nothing renews it here.
    keys = redis_server.command("KEYS", "claude-code-bridge:1:answers:*").split("\r\n")
    (key,) = [line for line in keys if line.startswith("claude-code-bridge")]
    redis_server.command("DEL", key)
    assert two.responses.retrieve(begun.id).status == "failed"
    one.responses.cancel(begun.id)


def test_over_grpc_the_status_names_the_server(
    clients: tuple[OpenAI, OpenAI], fleet: tuple[RunningBridge, RunningBridge]
) -> None:
    one, _ = clients
    begun = one.responses.create(
        model="opus", input=sim(endless=True, delay_ms=20), background=True
    )
    id = begun.id.replace("resp_", "req_")
    with grpc.insecure_channel(fleet[1].target) as channel:
        stub = CompletionServiceStub(channel)
        for call in (
            lambda: list(stub.AttachCompletion(pb.AttachCompletionRequest(request_id=id))),
            lambda: stub.CancelCompletion(pb.CancelCompletionRequest(request_id=id)),
        ):
            with pytest.raises(grpc.RpcError) as raised:
                call()
            error: Any = raised.value
            details = details_in(error.code(), error.details(), error.trailing_metadata())
            assert details is not None
            assert details.code is grpc.StatusCode.FAILED_PRECONDITION
            assert details.info.reason == "ANSWER_ELSEWHERE"
            assert details.info.metadata["replica"] == "one"
            assert dict(error.trailing_metadata())["x-bridge-found-on"] == "one"
    one.responses.cancel(begun.id)


def _stores(client: OpenAI) -> bool:
    return client.responses.create(model="opus", input="x").to_dict()["store"] is True


@pytest.mark.parametrize("fault", ["killed", pytest.param("stalled", marks=LONG)])
def test_while_redis_is_away_answers_are_given_and_stored_ones_are_a_503(
    clients: tuple[OpenAI, OpenAI], redis_server: RedisServer, fault: str
) -> None:
    one, two = clients
    first = one.responses.create(model="opus", input="before")
    if fault == "killed":
        redis_server.kill()
    else:
        redis_server.stall()
    headers = {"Idempotency-Key": "order-1"}
    during = one.responses.create(model="opus", input="during", extra_headers=headers)
    assert during.status == "completed"
    assert during.to_dict()["store"] is False
    with pytest.raises(APIStatusError) as raised:
        one.responses.create(model="opus", input="more", previous_response_id=first.id)
    assert (raised.value.status_code, raised.value.code) == (503, "store_unavailable")
    assert int(raised.value.response.headers["retry-after"]) > 0
    if fault == "killed":
        redis_server.start()
        redis_server.documented_user()
    else:
        redis_server.resume()
    # The first one of each that is stored again, whatever it takes until then.
    for client in clients:
        eventually(partial(_stores, client))
    after = one.responses.create(model="opus", input="after")
    assert two.responses.retrieve(after.id).output_text == after.output_text
    # What was claimed meanwhile is claimed for all, a moment later.
    eventually(lambda: ":claims:" in redis_server.command("KEYS", "*"))
    with pytest.raises(APIStatusError) as raised:
        two.responses.create(model="opus", input="during", extra_headers=headers)
    assert raised.value.code == "request_id_in_use"


@LONG
def test_what_is_in_a_file_does_not_need_redis(
    redis_server: RedisServer, start_bridge: Callable[..., RunningBridge]
) -> None:
    bridge = start_bridge(
        bridge_redis_url=parse_redis_url(redis_server.url), bridge_responses_store="file"
    )
    client = OpenAI(base_url=f"{bridge.url}/v1", api_key="unused", max_retries=0)
    first = client.responses.create(model="opus", input="before")
    redis_server.kill()
    then = client.responses.create(model="opus", input="then", previous_response_id=first.id)
    assert then.to_dict()["store"] is True
    assert client.responses.retrieve(then.id).status == "completed"
    # Whether another server has it cannot be told.
    with pytest.raises(APIStatusError) as raised:
        client.responses.cancel("resp_unknown")
    assert (raised.value.status_code, raised.value.code) == (503, "store_unavailable")
