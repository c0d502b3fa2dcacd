"""pydantic-ai over the Messages API: its agents, tools, output modes, thinking and errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support.harness import LONG, PATIENCE, RunningBridge, sim

pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed: clients-pydantic-ai")

from anthropic import AsyncAnthropic
from pydantic_ai import Agent, BinaryContent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter, ThinkingPart
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.usage import UsageLimits


class Person(BaseModel):
    """Someone."""

    name: str
    age: int


ADA = {"name": "Ada", "age": 36}
# By the full name: pydantic-ai goes by it for what a model can do.
OPUS, HAIKU = "claude-opus-5", "claude-haiku-4-5"
THINKING = AnthropicModelSettings(anthropic_thinking={"type": "adaptive"})


@pytest.fixture
async def model(bridge: RunningBridge) -> AsyncIterator[AnthropicModel]:
    async with AsyncAnthropic(
        base_url=bridge.url, api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        yield AnthropicModel(OPUS, provider=AnthropicProvider(anthropic_client=client))


def named(name: str, model: AnthropicModel) -> AnthropicModel:
    """Another model of the same server."""
    return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=model.client))


def upstream(bridge: RunningBridge, marker: str) -> list[Any]:
    """The user's and the assistant's turns in the last request of a conversation."""
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    return [message for message in exchange.messages if message["role"] != "system"]


async def test_an_agent_answers(model: AnthropicModel, bridge: RunningBridge, marker: str) -> None:
    agent = Agent(model, instructions=f"Be {marker}.")
    result = await agent.run("Hi " + sim(text="Hello."))
    assert result.output == "Hello."
    assert result.usage.output_tokens > 0
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert f"Be {marker}." in exchange.system_text


async def test_a_run_is_streamed(model: AnthropicModel) -> None:
    async with Agent(model).run_stream("Count " + sim(tokens=20)) as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    assert len(pieces) >= 20
    assert "".join(pieces) == "".join(f"w{number} " for number in range(20))
    assert run.usage.output_tokens == 20


async def test_settings_arrive(model: AnthropicModel, bridge: RunningBridge, marker: str) -> None:
    settings = AnthropicModelSettings(
        max_tokens=3, stop_sequences=["w9"], anthropic_effort="low", anthropic_metadata={}
    )
    result = await Agent(model).run(f"{marker} {sim(tokens=20)}", model_settings=settings)
    assert result.output.split() == ["w0", "w1", "w2"]
    body = bridge.simulator.ledger.exchanges(containing=marker)[-1].body
    assert body["stop_sequences"] == ["w9"]
    assert body["output_config"]["effort"] == "low"


@pytest.mark.parametrize(
    "output_type",
    [ToolOutput(Person), NativeOutput(Person), PromptedOutput(Person)],
    ids=["tool", "native", "prompted"],
)
@pytest.mark.parametrize("name", [OPUS, pytest.param(HAIKU, marks=LONG)])
async def test_an_output_of_a_type(
    model: AnthropicModel, output_type: Any, name: str, marker: str
) -> None:
    by_tool = isinstance(output_type, ToolOutput)
    directive = sim(tools=[{"name": "final_result", "input": ADA}]) if by_tool else sim(json=ADA)
    agent = Agent(named(name, model), output_type=output_type)
    result = await agent.run(f"{marker} Who? {directive}")
    assert result.output == Person(name="Ada", age=36)


@pytest.mark.parametrize(
    "output_type", [ToolOutput(Person), NativeOutput(Person)], ids=["tool", "native"]
)
async def test_an_output_is_streamed(model: AnthropicModel, output_type: Any, marker: str) -> None:
    call = {"name": "final_result", "input": ADA, "fragment": 3}
    by_tool = isinstance(output_type, ToolOutput)
    directive = sim(tools=[call]) if by_tool else sim(json=ADA)
    agent = Agent(model, output_type=output_type)
    async with agent.run_stream(f"{marker} Who? {directive}") as run:
        outputs = [output async for output in run.stream_output(debounce_by=None)]
    assert outputs[-1] == Person(name="Ada", age=36)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_tools_and_thinking_over_several_rounds(
    model: AnthropicModel, bridge: RunningBridge, marker: str, streamed: bool
) -> None:
    turns = [
        {
            "thinking": "Two sums.",
            "text": "I look.",
            "tools": [
                {"name": "add", "input": {"a": 1, "b": 2}},
                {"name": "add", "input": {"a": 3, "b": 4}},
            ],
        },
        {"tools": [{"name": "add", "input": {"a": 3, "b": 7}}]},
        {"text": "Ten."},
    ]
    agent = Agent(model, system_prompt="Add.", model_settings=THINKING)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    question = f"{marker} Sum? {sim(turns=turns)}"
    async with agent.iter(question) as run:
        async for node in run:
            if streamed and Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as stream:
                    async for _ in stream:
                        pass
    assert run.result is not None
    assert run.result.output == "Ten."
    assert run.result.usage.requests == 3
    blocks = [block for turn in upstream(bridge, marker) for block in turn["content"]]
    results = [block for block in blocks if block["type"] == "tool_result"]
    assert [block["content"][0]["text"] for block in results] == ["3", "7", "10"]
    (thought,) = [block for block in blocks if block["type"] == "thinking"]
    assert thought["thinking"] == "Two sums."


async def test_a_history_with_thinking_continues_in_another_run(
    model: AnthropicModel, bridge: RunningBridge, marker: str
) -> None:
    agent = Agent(model, model_settings=THINKING)
    first = await agent.run(f"{marker} " + sim(thinking="Hm.", text="Two."))
    (thought,) = [
        part
        for message in first.all_messages()
        for part in message.parts
        if isinstance(part, ThinkingPart)
    ]
    # Kept as JSON in between, as in a database.
    history = ModelMessagesTypeAdapter.validate_json(first.all_messages_json())
    # Another system prompt has another process, which gets the history replayed.
    other = Agent(model, model_settings=THINKING, instructions="Be kind.")
    second = await other.run("And? " + sim(text="No more."), message_history=history)
    assert second.output == "No more."
    assert (thought.content, bool(thought.signature)) == ("Hm.", True)
    replayed = upstream(bridge, marker)[1]["content"][0]
    assert (replayed["type"], replayed["signature"]) == ("thinking", thought.signature)


async def test_an_image_and_a_document(
    model: AnthropicModel, bridge: RunningBridge, marker: str, png_image: bytes
) -> None:
    image = BinaryContent(png_image, media_type="image/png")
    note = BinaryContent(b"The word is plum.", media_type="text/plain")
    result = await Agent(model).run([f"{marker} What? {sim(text='A dot.')}", image, note])
    assert result.output == "A dot."
    (turn,) = upstream(bridge, marker)
    assert "image" in [block["type"] for block in turn["content"]]
    assert "The word is plum." in json.dumps(turn)


async def test_tokens_are_counted(model: AnthropicModel) -> None:
    limits = UsageLimits(input_tokens_limit=10, count_tokens_before_request=True)
    with pytest.raises(UsageLimitExceeded):
        await Agent(model).run("word " * 500, usage_limits=limits)


async def test_errors_are_its_own(model: AnthropicModel) -> None:
    agent = Agent(model)
    with pytest.raises(ModelRequestRejectedError):
        await agent.run("x " + sim(error={"status": 400}))
    with pytest.raises(ModelRateLimitError):
        await agent.run("x " + sim(error={"status": 429}))
    with pytest.raises(ModelNotFoundError):
        await agent.run("x", model=named("claude-nonexistent-9", model))
    with pytest.raises(ModelHTTPError) as caught:
        await agent.run("x " + sim(error={"status": 529}))
    assert caught.value.status_code == 529


async def test_a_stream_that_ends_prematurely_is_an_error(model: AnthropicModel) -> None:
    with pytest.raises(ModelAPIError):
        async with Agent(model).run_stream("x " + sim(tokens=9, error_after=5)) as run:
            await run.get_output()
