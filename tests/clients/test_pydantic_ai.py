"""pydantic-ai through the real CLI: its agents, tools, output modes and histories."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support.harness import PATIENCE, RunningBridge, sim

pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed: clients-pydantic-ai")

from openai import AsyncOpenAI
from pydantic_ai import Agent, BinaryContent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelRequestRejectedError,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter, PartDeltaEvent, ToolCallPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings


class Person(BaseModel):
    """Someone."""

    name: str
    age: int


class Team(BaseModel):
    """Some people, one of whom may lead."""

    people: list[Person]
    lead: Person | None


ADA = {"name": "Ada", "age": 36}
TEAM = {"people": [ADA, {"name": "Bob", "age": 5}], "lead": None}


@pytest.fixture
async def model(base_url: str) -> AsyncIterator[OpenAIChatModel]:
    async with AsyncOpenAI(
        base_url=base_url, api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        yield OpenAIChatModel("default", provider=OpenAIProvider(openai_client=client))


def upstream(bridge: RunningBridge, marker: str) -> list[Any]:
    """The user's and the assistant's turns in the last request of a conversation."""
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    return [message for message in exchange.messages if message["role"] != "system"]


async def test_an_agent_answers(model: OpenAIChatModel, bridge: RunningBridge, marker: str) -> None:
    agent = Agent(model, instructions=f"Be {marker}.")
    result = await agent.run("Hi " + sim(text="Hello."))
    assert result.output == "Hello."
    assert result.usage.output_tokens > 0
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert f"Be {marker}." in exchange.system_text


async def test_a_run_is_streamed(model: OpenAIChatModel) -> None:
    async with Agent(model).run_stream("Count " + sim(tokens=20)) as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    assert len(pieces) >= 20
    assert "".join(pieces) == "".join(f"w{number} " for number in range(20))
    assert run.usage.output_tokens == 20


async def test_settings_arrive(model: OpenAIChatModel, bridge: RunningBridge, marker: str) -> None:
    settings = ModelSettings(max_tokens=3, stop_sequences=["w9"], temperature=0.5)
    result = await Agent(model).run(f"{marker} {sim(tokens=20)}", model_settings=settings)
    assert result.output.split() == ["w0", "w1", "w2"]
    body = bridge.simulator.ledger.exchanges(containing=marker)[-1].body
    assert body["stop_sequences"] == ["w9"]


@pytest.mark.parametrize(
    "output_type",
    [Team, ToolOutput(Team), NativeOutput(Team), PromptedOutput(Team)],
    ids=["default", "tool", "native", "prompted"],
)
@pytest.mark.parametrize("name", ["default", "haiku"])
async def test_an_output_of_a_type(
    model: OpenAIChatModel, output_type: Any, name: str, marker: str
) -> None:
    by_tool = output_type is Team or isinstance(output_type, ToolOutput)
    directive = sim(tools=[{"name": "final_result", "input": TEAM}]) if by_tool else sim(json=TEAM)
    other = OpenAIChatModel(name, provider=OpenAIProvider(openai_client=model.client))
    result = await Agent(other, output_type=output_type).run(f"{marker} Who? {directive}")
    assert result.output == Team.model_validate(TEAM)


async def test_an_output_of_a_type_with_any_answer(model: OpenAIChatModel, marker: str) -> None:
    result = await Agent(model, output_type=NativeOutput(Team)).run(f"{marker} Who?")
    assert isinstance(result.output, Team)


async def test_one_of_two_outputs(model: OpenAIChatModel, marker: str) -> None:
    agent: Agent[None, Any] = Agent(model, output_type=[Team, Person])
    call = {"name": "final_result_Person", "input": ADA}
    result = await agent.run(f"{marker} Who? {sim(tools=[call])}")
    assert result.output == Person(name="Ada", age=36)


@pytest.mark.parametrize("output_type", [Person, NativeOutput(Person)], ids=["tool", "native"])
async def test_an_output_is_streamed(model: OpenAIChatModel, output_type: Any, marker: str) -> None:
    call = {"name": "final_result", "input": ADA, "fragment": 3}
    directive = sim(tools=[call]) if output_type is Person else sim(json=ADA)
    agent = Agent(model, output_type=output_type)
    async with agent.run_stream(f"{marker} Who? {directive}") as run:
        outputs = [output async for output in run.stream_output(debounce_by=None)]
    assert outputs[-1] == Person(name="Ada", age=36)


async def test_an_output_that_is_wrong_is_asked_for_again(
    model: OpenAIChatModel, bridge: RunningBridge, marker: str
) -> None:
    turns = [
        {"tools": [{"name": "final_result", "input": {"name": "Ada", "age": "old"}}]},
        {"tools": [{"name": "final_result", "input": ADA}]},
    ]
    result = await Agent(model, output_type=Person).run(f"{marker} Who? {sim(turns=turns)}")
    assert result.output == Person(name="Ada", age=36)
    (complaint,) = upstream(bridge, marker)[-1]["content"]
    assert complaint["type"] == "tool_result"
    assert "integer" in json.dumps(complaint)


async def test_tools_over_several_rounds(
    model: OpenAIChatModel, bridge: RunningBridge, marker: str
) -> None:
    turns = [
        {
            "text": "I look.",
            "tools": [
                {"name": "add", "input": {"a": 1, "b": 2}},
                {"name": "add", "input": {"a": 3, "b": 4}},
            ],
        },
        {"tools": [{"name": "add", "input": {"a": 3, "b": 7}}, {"name": "today"}]},
        {"text": "Ten."},
    ]
    agent = Agent(model, system_prompt="Add.")
    called = []

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        called.append((a, b))
        return a + b

    @agent.tool_plain
    async def today() -> str:
        """Say what day it is."""
        return "Monday"

    result = await agent.run(f"{marker} Sum? {sim(turns=turns)}")
    assert result.output == "Ten."
    assert sorted(called) == [(1, 2), (3, 4), (3, 7)]
    blocks = [block for turn in upstream(bridge, marker) for block in turn["content"]]
    texts = [block["content"][0]["text"] for block in blocks if block["type"] == "tool_result"]
    assert texts == ["3", "7", "10", "Monday"]
    assert result.usage.requests == 3


async def test_tools_and_an_output_of_a_type(model: OpenAIChatModel, marker: str) -> None:
    turns = [
        {"tools": [{"name": "look_up", "input": {"name": "Ada"}}]},
        {"tools": [{"name": "final_result", "input": ADA}]},
    ]
    agent = Agent(model, output_type=Person)

    @agent.tool_plain
    def look_up(name: str) -> str:
        """Look somebody up."""
        return f"{name} is 36"

    result = await agent.run(f"{marker} Who? {sim(turns=turns)}")
    assert result.output == Person(name="Ada", age=36)


async def test_tools_and_a_native_output(model: OpenAIChatModel, marker: str) -> None:
    turns = [{"tools": [{"name": "look_up", "input": {"name": "Ada"}}]}, {"json": ADA}]
    agent = Agent(model, output_type=NativeOutput(Person))

    @agent.tool_plain
    def look_up(name: str) -> str:
        """Look somebody up."""
        return f"{name} is 36"

    result = await agent.run(f"{marker} Who? {sim(turns=turns)}")
    assert result.output == Person(name="Ada", age=36)


async def test_tools_are_streamed(model: OpenAIChatModel, marker: str) -> None:
    turns = [
        {"text": "I look.", "tools": [{"name": "look_up", "input": {"name": "Ada"}}]},
        {"tokens": 9},
    ]
    agent = Agent(model)

    @agent.tool_plain
    def look_up(name: str) -> str:
        """Look somebody up."""
        return f"{name} is 36"

    deltas = 0
    async with agent.iter(f"{marker} Who? {sim(turns=turns)}") as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as stream:
                    async for event in stream:
                        deltas += isinstance(event, PartDeltaEvent)
    assert run.result is not None
    assert run.result.output == "".join(f"w{number} " for number in range(9))
    assert deltas > 9


async def test_a_history_continues_in_another_run(
    model: OpenAIChatModel, bridge: RunningBridge, marker: str
) -> None:
    agent = Agent(model)

    @agent.tool_plain
    def look_up(name: str) -> str:
        """Look somebody up."""
        return f"{name} is 36"

    turns = [{"tools": [{"name": "look_up", "input": {"name": "Ada"}}]}, {"text": "Ada is 36."}]
    first = await agent.run(f"{marker} {sim(turns=turns)}")
    # Kept as JSON in between, as in a database.
    history = ModelMessagesTypeAdapter.validate_json(first.all_messages_json())
    second = await agent.run("And? " + sim(text="No more."), message_history=history)
    third = await agent.run("Sure? " + sim(text="Yes."), message_history=second.all_messages())
    assert [second.output, third.output] == ["No more.", "Yes."]
    assert [turn["role"] for turn in upstream(bridge, marker)] == [
        *["user", "assistant"] * 3,
        "user",
    ]
    # A run that branches off from the first.
    branch = await agent.run("Or? " + sim(text="Maybe."), message_history=history)
    assert branch.output == "Maybe."
    assert "No more." not in json.dumps(upstream(bridge, marker))


async def test_an_image(
    model: OpenAIChatModel, bridge: RunningBridge, marker: str, png_image: bytes
) -> None:
    image = BinaryContent(png_image, media_type="image/png")
    result = await Agent(model).run([f"{marker} What? {sim(text='A dot.')}", image])
    assert result.output == "A dot."
    (turn,) = upstream(bridge, marker)
    assert "image" in [block["type"] for block in turn["content"]]


async def test_errors_are_its_own(model: OpenAIChatModel) -> None:
    agent = Agent(model)
    with pytest.raises(ModelRequestRejectedError):
        await agent.run("x " + sim(error={"status": 400}))
    with pytest.raises(ModelRateLimitError):
        await agent.run("x " + sim(error={"status": 429}))
    unknown = OpenAIChatModel(
        "claude-nonexistent-9", provider=OpenAIProvider(openai_client=model.client)
    )
    with pytest.raises(ModelNotFoundError):
        await agent.run("x", model=unknown)
    with pytest.raises(ModelHTTPError) as caught:
        await agent.run("x", model_settings=ModelSettings(extra_body={"n": 2}))
    assert caught.value.status_code == 400


async def test_a_stream_that_ends_prematurely_is_an_error(model: OpenAIChatModel) -> None:
    with pytest.raises(ModelAPIError):
        async with Agent(model).run_stream("x " + sim(tokens=9, error_after=5)) as run:
            await run.get_output()


async def test_a_call_of_a_tool_is_in_the_history(model: OpenAIChatModel, marker: str) -> None:
    agent = Agent(model)

    @agent.tool_plain
    def nothing() -> None:
        """Do nothing."""

    turns = [{"tools": [{"name": "nothing"}]}, {"text": "Done."}]
    result = await agent.run(f"{marker} {sim(turns=turns)}")
    calls = [p for m in result.all_messages() for p in m.parts if isinstance(p, ToolCallPart)]
    assert [(call.tool_name, call.args_as_dict()) for call in calls] == [("nothing", {})]
