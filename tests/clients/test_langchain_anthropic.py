"""LangChain's ChatAnthropic through the real CLI: chains, tools, thinking, shapes and errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr

from tests.support.harness import LONG, PATIENCE, RunningBridge, sim

pytest.importorskip(
    "langchain_anthropic", reason="langchain-anthropic is not installed: clients-langchain"
)

import anthropic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.tools import tool
from langsmith import tracing_context


class Person(BaseModel):
    """Someone."""

    name: str = Field(description="What they are called.")
    age: int


ADA = {"name": "Ada", "age": 36}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def today() -> str:
    """Say what day it is."""
    return "Monday"


TOOLS = {"add": add, "today": today}

Chat = Callable[..., ChatAnthropic]


@pytest.fixture(autouse=True)
def _untraced() -> Iterator[None]:
    with tracing_context(enabled=False):
        yield


@pytest.fixture
def chat(bridge: RunningBridge) -> Chat:
    def chat(model: str = "opus", **options: Any) -> ChatAnthropic:
        return ChatAnthropic(
            model_name=model,
            base_url=bridge.url,
            api_key=SecretStr("unused"),
            timeout=PATIENCE,
            max_retries=0,
            **options,
        )

    return chat


def upstream(bridge: RunningBridge, marker: str) -> list[Any]:
    """The user's and the assistant's turns in the last request of a conversation."""
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    return [message for message in exchange.messages if message["role"] != "system"]


def _sum(chunks: Iterable[AIMessage]) -> AIMessageChunk:
    pieces = [chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    return whole


def test_invoke(chat: Chat, bridge: RunningBridge, marker: str) -> None:
    answer = chat().invoke([SystemMessage(f"Be {marker}."), HumanMessage(sim(text="Hello."))])
    assert answer.content == "Hello."
    assert answer.response_metadata["stop_reason"] == "end_turn"
    assert answer.response_metadata["model_name"].startswith("claude-")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert f"Be {marker}." in exchange.system_text


async def test_ainvoke_and_abatch(chat: Chat) -> None:
    answers = await chat().abatch([f"Hi {sim(text=str(number))}" for number in range(4)])
    assert [answer.content for answer in answers] == ["0", "1", "2", "3"]


def test_stream(chat: Chat) -> None:
    chunks = list(chat().stream("Count " + sim(tokens=20)))
    assert len(chunks) >= 20
    whole = _sum(chunks)
    assert whole.text == "".join(f"w{number} " for number in range(20))
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 20
    assert whole.response_metadata["stop_reason"] == "end_turn"


def test_parameters(chat: Chat, bridge: RunningBridge, marker: str) -> None:
    model = chat(max_tokens_to_sample=3, stop=["w9"], effort="low")
    answer = model.invoke(f"{marker} {sim(tokens=20)}")
    assert answer.content == "w0 w1 w2 "
    assert answer.response_metadata["stop_reason"] == "max_tokens"
    body = bridge.simulator.ledger.exchanges(containing=marker)[-1].body
    assert body["stop_sequences"] == ["w9"]
    assert body["output_config"]["effort"] == "low"


@pytest.mark.parametrize("streamed", [False, True], ids=["invoke", "stream"])
def test_a_loop_of_tools_with_thinking(
    chat: Chat, bridge: RunningBridge, marker: str, streamed: bool
) -> None:
    turns = [
        {
            "thinking": "Hm.",
            "text": "I add.",
            "tools": [{"name": "add", "input": {"a": 1, "b": 2}}, {"name": "today"}],
        },
        {"tools": [{"name": "add", "input": {"a": 3, "b": 7}}]},
        {"text": "Ten."},
    ]
    model = chat(thinking={"type": "adaptive"}).bind_tools([add, today])
    messages: list[BaseMessage] = [
        SystemMessage("Add."),
        HumanMessage(f"{marker} {sim(turns=turns)}"),
    ]
    while True:
        answer: Any = _sum(model.stream(messages)) if streamed else model.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            break
        messages += [TOOLS[call["name"]].invoke(call) for call in answer.tool_calls]
    assert answer.text == "Ten."
    # Another system prompt has another process, which gets the history replayed.
    again = [SystemMessage("Sum."), *messages[1:], HumanMessage("Sure? " + sim(text="Yes."))]
    assert model.invoke(again).text == "Yes."
    blocks = [block for turn in upstream(bridge, marker) for block in turn["content"]]
    texts = [block["content"][0]["text"] for block in blocks if block["type"] == "tool_result"]
    assert texts == ["3", "Monday", "10"]
    (thought,) = [block for block in blocks if block["type"] == "thinking"]
    assert (thought["thinking"], bool(thought["signature"])) == ("Hm.", True)


@pytest.mark.parametrize("choice", ["any", "add"])
@pytest.mark.parametrize("name", [pytest.param("opus", marks=LONG), "haiku"])
def test_a_tool_choice(chat: Chat, marker: str, name: str, choice: str) -> None:
    model = chat(name).bind_tools([add, today], tool_choice=choice, parallel_tool_calls=False)
    call = {"name": "add", "input": {"a": 1, "b": 2}}
    answer = model.invoke(f"{marker} {sim(tools=[call])}")
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("add", {"a": 1, "b": 2})
    ]


Method = Literal["function_calling", "json_schema"]
METHODS: list[Method] = ["function_calling", "json_schema"]


@pytest.mark.parametrize("name", ["opus", pytest.param("haiku", marks=LONG)])
@pytest.mark.parametrize("method", METHODS)
async def test_a_structured_output(chat: Chat, marker: str, method: Method, name: str) -> None:
    call = {"name": "Person", "input": ADA, "fragment": 3}
    directive = sim(tools=[call]) if method == "function_calling" else sim(json=ADA)
    model = chat(name).with_structured_output(Person, method=method)
    question = f"{marker} Who? {directive}"
    assert model.invoke(question) == Person(name="Ada", age=36)
    pieces = [piece async for piece in model.astream(question)]
    assert pieces[-1] == Person(name="Ada", age=36)


def test_an_image_and_a_cache_breakpoint(
    chat: Chat, bridge: RunningBridge, marker: str, png_image: bytes
) -> None:
    data = base64.b64encode(png_image).decode()
    cached = {"cache_control": {"type": "ephemeral"}}
    answer = chat().invoke(
        [
            HumanMessage(
                [
                    {"type": "text", "text": f"{marker} look", **cached},
                    {"type": "image", "base64": data, "mime_type": "image/png"},
                    {"type": "text", "text": sim(text="A dot.")},
                ]
            )
        ]
    )
    assert answer.content == "A dot."
    (turn,) = upstream(bridge, marker)
    (image,) = [block for block in turn["content"] if block["type"] == "image"]
    assert image["source"]["data"] == data
    assert turn["content"][0]["cache_control"]["type"] == "ephemeral"


def test_tokens_are_counted(chat: Chat) -> None:
    few = chat().get_num_tokens_from_messages([HumanMessage("word")])
    many = chat().get_num_tokens_from_messages([HumanMessage("word " * 500)], tools=[add])
    assert 0 < few < many


def test_errors_are_anthropics(chat: Chat, marker: str) -> None:
    with pytest.raises(anthropic.NotFoundError):
        chat("claude-nonexistent-9").invoke("x")
    with pytest.raises(anthropic.BadRequestError):
        chat().invoke("x " + sim(error={"status": 400}))
    with pytest.raises(anthropic.APIError):
        list(chat().stream(f"{marker} {sim(tokens=9, error_after=5)}"))


def test_the_schema_that_arrives(chat: Chat, bridge: RunningBridge, marker: str) -> None:
    model = chat().with_structured_output(Person, method="json_schema")
    model.invoke(f"{marker} {sim(json=ADA)}")
    body = bridge.simulator.ledger.exchanges(containing=marker)[-1].body
    properties = body["output_config"]["format"]["schema"]["properties"]
    assert json.dumps(properties["name"]).count("What they are called.") == 1
