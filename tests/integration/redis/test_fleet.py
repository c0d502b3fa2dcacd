"""Two servers on one Redis: what was made on one is there on the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from openai import APIStatusError, OpenAI
from openai.types.responses import FunctionToolParam

from bridge.core.redis import parse_redis_url
from tests.support.harness import RunningBridge, sim
from tests.support.redis_server import RedisServer

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
    return start_bridge(bridge_redis_url=url), start_bridge(bridge_redis_url=url)


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


def test_while_redis_is_away_answers_are_given_and_stored_ones_are_a_503(
    clients: tuple[OpenAI, OpenAI], redis_server: RedisServer
) -> None:
    one, _ = clients
    first = one.responses.create(model="opus", input="before")
    redis_server.kill()
    during = one.responses.create(model="opus", input="during")
    assert during.status == "completed"
    assert during.to_dict()["store"] is False
    with pytest.raises(APIStatusError) as raised:
        one.responses.create(model="opus", input="more", previous_response_id=first.id)
    assert raised.value.status_code == 503
    assert raised.value.code == "store_unavailable"
    assert int(raised.value.response.headers["retry-after"]) > 0
