"""openai-agents through the real CLI: agents, tools, handoffs, outputs and kept conversations."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support.harness import PATIENCE, RunningBridge, sim

pytest.importorskip("agents", reason="openai-agents is not installed: clients-openai-agents")

from agents import (
    Agent,
    ModelSettings,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    WebSearchTool,
    function_tool,
)
from agents.exceptions import ModelBehaviorError
from openai import AsyncOpenAI, BadRequestError
from openai.types.responses import ResponseTextDeltaEvent
from openai.types.shared import Reasoning

QUIET = RunConfig(tracing_disabled=True)
"""Without it a run is reported to OpenAI."""


class Person(BaseModel):
    """Someone."""

    name: str
    age: int


class Team(BaseModel):
    """Some people, one of whom may lead."""

    people: list[Person]
    lead: Person | None


TEAM = {"people": [{"name": "Ada", "age": 36}], "lead": None}


@function_tool
def weather(city: str, unit: str = "C") -> str:
    """Say the weather of a place."""
    return f"wet in {city}, in {unit}"


@function_tool
def clock() -> str:
    """Say the time."""
    return "noon"


@pytest.fixture
async def model(base_url: str) -> AsyncIterator[OpenAIResponsesModel]:
    async with AsyncOpenAI(
        base_url=base_url, api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        yield OpenAIResponsesModel("opus", client)


def upstream(bridge: RunningBridge, marker: str) -> list[Any]:
    """The user's and the assistant's turns in the last request of a conversation."""
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    return [message for message in exchange.messages if message["role"] != "system"]


def turns(*turns: dict[str, Any]) -> str:
    return sim(turns=list(turns))


CALLS = [
    {"name": "weather", "input": {"city": "Oslo", "unit": "F"}},
    {"name": "clock", "input": {}},
]


async def test_an_agent_answers(
    model: OpenAIResponsesModel, bridge: RunningBridge, marker: str
) -> None:
    agent = Agent("helper", instructions=f"Be {marker}.", model=model)

    result = await Runner.run(agent, "Hi " + sim(text="Hello."), run_config=QUIET)

    assert result.final_output == "Hello."
    assert result.context_wrapper.usage.output_tokens > 0
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert f"Be {marker}." in exchange.system_text


@pytest.mark.parametrize("kept", [False, True])
async def test_an_agent_calls_its_tools(
    model: OpenAIResponsesModel, bridge: RunningBridge, marker: str, kept: bool
) -> None:
    agent = Agent("helper", instructions="Help.", model=model, tools=[weather, clock])
    asked = f"{marker} {turns({'text': 'I look.', 'tools': CALLS}, {'text': 'Wet at noon.'})}"

    result = await Runner.run(agent, asked, run_config=QUIET, auto_previous_response_id=kept)

    assert result.final_output == "Wet at noon."
    results = json.dumps(upstream(bridge, marker)[-1]["content"])
    assert "wet in Oslo, in F" in results
    assert "noon" in results


async def test_a_run_is_streamed(model: OpenAIResponsesModel, marker: str) -> None:
    agent = Agent(
        "helper",
        instructions="Help.",
        model=model,
        tools=[weather],
        model_settings=ModelSettings(reasoning=Reasoning(effort="low", summary="auto")),
    )
    asked = f"{marker} {turns({'thinking': 'Hm.', 'tools': CALLS[:1]}, {'tokens': 20})}"

    run = Runner.run_streamed(agent, asked, run_config=QUIET)
    pieces, kinds = [], []
    async for event in run.stream_events():
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
            pieces.append(event.data.delta)
        elif event.type == "run_item_stream_event":
            kinds.append(event.item.type)

    assert "".join(pieces) == run.final_output == "".join(f"w{number} " for number in range(20))
    assert kinds == [
        "reasoning_item",
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]


async def test_an_output_of_a_type(model: OpenAIResponsesModel, marker: str) -> None:
    agent = Agent("helper", instructions="Help.", model=model, output_type=Team)

    result = await Runner.run(agent, f"{marker} Who? {sim(json=TEAM)}", run_config=QUIET)

    assert result.final_output == Team.model_validate(TEAM)


async def test_a_run_continues_from_the_last_response(
    model: OpenAIResponsesModel, bridge: RunningBridge, marker: str
) -> None:
    agent = Agent("helper", instructions="Help.", model=model)
    first = await Runner.run(agent, f"{marker} {sim(text='One.')}", run_config=QUIET)

    second = await Runner.run(
        agent,
        sim(text="Two."),
        previous_response_id=first.last_response_id,
        run_config=QUIET,
    )

    assert second.final_output == "Two."
    assert [message["role"] for message in upstream(bridge, marker)] == [
        "user",
        "assistant",
        "user",
    ]


async def test_a_run_continues_from_its_own_items(
    model: OpenAIResponsesModel, bridge: RunningBridge, marker: str
) -> None:
    agent = Agent("helper", instructions="Help.", model=model, tools=[clock])
    asked = f"{marker} {turns({'tools': CALLS[1:]}, {'text': 'Noon.'})}"
    first = await Runner.run(agent, asked, run_config=QUIET)

    items = [*first.to_input_list(), {"role": "user", "content": sim(text="Two.")}]
    second = await Runner.run(agent, items, run_config=QUIET)  # type: ignore[arg-type]

    assert second.final_output == "Two."
    assert [message["role"] for message in upstream(bridge, marker)] == [
        "user",
        "assistant",
    ] * 2 + ["user"]


async def test_a_conversation_is_handed_to_another_agent(
    model: OpenAIResponsesModel, marker: str
) -> None:
    poet = Agent("poet", instructions="Rhyme.", model=model)
    desk = Agent("desk", instructions="Hand over.", model=model, handoffs=[poet])
    asked = f"{marker} {turns({'tools': [{'name': 'transfer_to_poet'}]}, {'text': 'A rhyme.'})}"

    result = await Runner.run(desk, asked, run_config=QUIET)

    assert (result.last_agent, result.final_output) == (poet, "A rhyme.")


async def test_a_hosted_tool_is_ignored_and_refused_in_strict_mode(
    model: OpenAIResponsesModel,
) -> None:
    agent = Agent("helper", model=model, tools=[WebSearchTool()])

    assert (await Runner.run(agent, "Hi", run_config=QUIET)).final_output
    strict = ModelSettings(extra_headers={"x-bridge-strict": "true"})
    with pytest.raises(BadRequestError, match="does not host"):
        await Runner.run(replace(agent, model_settings=strict), "Hi", run_config=QUIET)


async def test_a_stream_that_breaks_is_an_error(model: OpenAIResponsesModel, marker: str) -> None:
    run = Runner.run_streamed(
        Agent("helper", model=model),
        f"{marker} {sim(tokens=20, error_after=5)}",
        run_config=QUIET,
    )

    with pytest.raises(ModelBehaviorError):
        async for _ in run.stream_events():
            pass
