"""LangChain's ChatOpenAI through the real CLI: chains, tools, shapes and odd histories."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr

from tests.support.harness import PATIENCE, RunningBridge, sim

pytest.importorskip(
    "langchain_openai", reason="langchain-openai is not installed: clients-langchain"
)

import openai
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langsmith import tracing_context


class Person(BaseModel):
    """Someone."""

    name: str = Field(description="What they are called.")
    age: int


ADA = {"name": "Ada", "age": 36}
SCHEMA = {"title": "person", "description": "Someone.", **Person.model_json_schema()}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def today() -> str:
    """Say what day it is."""
    return "Monday"


TOOLS = {"add": add, "today": today}

Chat = Callable[..., ChatOpenAI]


@pytest.fixture(autouse=True)
def _untraced() -> Iterator[None]:
    with tracing_context(enabled=False):
        yield


@pytest.fixture
def chat(base_url: str) -> Chat:
    def chat(model: str = "default", **options: Any) -> ChatOpenAI:
        return ChatOpenAI(
            model=model,
            base_url=base_url,
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


def test_invoke(chat: Chat) -> None:
    answer = chat().invoke("Hi " + sim(text="Hello."))
    assert answer.content == "Hello."
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["model_name"].startswith("claude-")
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] > 0


async def test_ainvoke_and_abatch(chat: Chat) -> None:
    answers = await chat().abatch([f"Hi {sim(text=str(number))}" for number in range(4)])
    assert [answer.content for answer in answers] == ["0", "1", "2", "3"]


def test_a_chain_with_a_system_message(chat: Chat, bridge: RunningBridge, marker: str) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be {word}."), ("human", "{question}")])
    answer = (prompt | chat()).invoke({"word": marker, "question": "Hi " + sim(text="Hello.")})
    assert answer.content == "Hello."
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert f"Be {marker}." in exchange.system_text


def test_stream(chat: Chat) -> None:
    chunks = list(chat(stream_usage=True).stream("Count " + sim(tokens=20)))
    assert len(chunks) >= 20
    whole = _sum(chunks)
    assert whole.content == "".join(f"w{number} " for number in range(20))
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 20
    assert whole.response_metadata["finish_reason"] == "stop"


async def test_astream_without_usage(chat: Chat) -> None:
    chunks = [chunk async for chunk in chat().astream("Count " + sim(tokens=5))]
    assert _sum(chunks).content == "w0 w1 w2 w3 w4 "


def test_parameters(chat: Chat, bridge: RunningBridge, marker: str) -> None:
    answer = chat(
        temperature=0.3, max_tokens=3, seed=7, n=1, stop=["w9"], model_kwargs={"user": "me"}
    ).invoke(f"{marker} {sim(tokens=20)}")
    assert answer.content == "w0 w1 w2 "
    assert answer.response_metadata["finish_reason"] == "length"
    body = bridge.simulator.ledger.exchanges(containing=marker)[-1].body
    assert body["stop_sequences"] == ["w9"]


def _sum(chunks: Iterable[AIMessage]) -> AIMessageChunk:
    pieces = [chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    return whole


@pytest.mark.parametrize("streamed", [False, True], ids=["invoke", "stream"])
def test_a_loop_of_tools(chat: Chat, bridge: RunningBridge, marker: str, streamed: bool) -> None:
    turns = [
        {
            "text": "I add.",
            "tools": [{"name": "add", "input": {"a": 1, "b": 2}}, {"name": "today"}],
        },
        {"tools": [{"name": "add", "input": {"a": 3, "b": 7}}]},
        {"text": "Ten."},
    ]
    model = chat().bind_tools([add, today])
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
    assert answer.content == "Ten."
    blocks = [block for turn in upstream(bridge, marker) for block in turn["content"]]
    texts = [block["content"][0]["text"] for block in blocks if block["type"] == "tool_result"]
    assert texts == ["3", "Monday", "10"]


@pytest.mark.parametrize("choice", ["any", "add", "required", True])
@pytest.mark.parametrize("name", ["default", "haiku"])
def test_a_tool_choice(chat: Chat, marker: str, name: str, choice: Any) -> None:
    offered = [add] if choice is True else [add, today]
    model = chat(name).bind_tools(offered, tool_choice=choice, parallel_tool_calls=False)
    call = {"name": "add", "input": {"a": 1, "b": 2}}
    answer = model.invoke(f"{marker} {sim(tools=[call])}")
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [
        ("add", {"a": 1, "b": 2})
    ]


Method = Literal["function_calling", "json_schema", "json_mode"]
METHODS: list[Method] = ["function_calling", "json_schema", "json_mode"]


@pytest.mark.parametrize("name", ["default", "haiku"])
@pytest.mark.parametrize("method", METHODS)
def test_a_structured_output(chat: Chat, marker: str, method: Method, name: str) -> None:
    call = {"name": "Person", "input": ADA}
    directive = sim(tools=[call]) if method == "function_calling" else sim(json=ADA)
    model = chat(name).with_structured_output(Person, method=method)
    assert model.invoke(f"{marker} Who? Answer in JSON. {directive}") == Person(name="Ada", age=36)


@pytest.mark.parametrize("method", METHODS)
def test_a_structured_output_by_schema_with_its_raw_form(
    chat: Chat, marker: str, method: Method
) -> None:
    call = {"name": "person", "input": ADA}
    directive = sim(tools=[call]) if method == "function_calling" else sim(json=ADA)
    model = chat().with_structured_output(
        {**SCHEMA, "title": "person"}, method=method, include_raw=True
    )
    answer = model.invoke(f"{marker} Who? Answer in JSON. {directive}")
    assert isinstance(answer, dict)
    assert answer["parsed"] == ADA
    assert answer["parsing_error"] is None
    assert isinstance(answer["raw"], AIMessage)


# LangChain dumps an event of the OpenAI client whose type knows nothing of what it was parsed to.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.parametrize("method", METHODS[:2])
async def test_a_structured_output_is_streamed(chat: Chat, marker: str, method: Method) -> None:
    call = {"name": "Person", "input": ADA, "fragment": 3}
    directive = sim(tools=[call]) if method == "function_calling" else sim(json=ADA)
    model = chat().with_structured_output(Person, method=method)
    pieces = [piece async for piece in model.astream(f"{marker} Who? {directive}")]
    assert pieces[-1] == Person(name="Ada", age=36)


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_structured_output_of_any_answer(chat: Chat, marker: str, method: Method) -> None:
    model = chat("haiku").with_structured_output(Person, method=method)
    assert isinstance(model.invoke(f"{marker} Who?"), Person)


def test_a_strict_structured_output(chat: Chat, marker: str) -> None:
    model = chat().with_structured_output(Person, method="json_schema", strict=True)
    assert model.invoke(f"{marker} Who? {sim(json=ADA)}") == Person(name="Ada", age=36)


CALL = {"name": "add", "args": {"a": 1, "b": 2}, "id": "call_from/elsewhere:1", "type": "tool_call"}
ODD: dict[str, tuple[list[BaseMessage], list[str]]] = {
    "a call of another provider": (
        [
            HumanMessage("Add."),
            AIMessage("", tool_calls=[CALL]),
            ToolMessage("3", tool_call_id=CALL["id"]),
            AIMessage("3"),
        ],
        ["user", "assistant", "user", "assistant", "user"],
    ),
    "parallel calls": (
        [
            HumanMessage("Add."),
            AIMessage("", tool_calls=[CALL, {**CALL, "id": "2"}]),
            ToolMessage("three", tool_call_id="2"),
            ToolMessage("3", tool_call_id=CALL["id"], status="error"),
        ],
        ["user", "assistant", "user"],
    ),
    "a system message in the middle": (
        [HumanMessage("Hi."), AIMessage("Hello."), SystemMessage("Be brief.")],
        ["user", "assistant", "user"],
    ),
    "a system message between two answers": (
        [HumanMessage("Hi."), AIMessage("Hello."), SystemMessage("Be brief."), AIMessage("Yes?")],
        ["user", "assistant", "user", "assistant", "user"],
    ),
    "the assistant first": ([AIMessage("Welcome.")], ["user", "assistant", "user"]),
    "users in a row": ([HumanMessage("One."), HumanMessage("Two.")], ["user"]),
    "an empty assistant": (
        [HumanMessage("Hi."), AIMessage(""), HumanMessage("Well?")],
        ["user"],
    ),
    "text in parts and a name": (
        [
            HumanMessage([{"type": "text", "text": "Hi."}], name="ada"),
            AIMessage([{"type": "text", "text": "Hello."}]),
        ],
        ["user", "assistant", "user"],
    ),
    "a reply of another provider": (
        [
            HumanMessage("Hi."),
            AIMessage(
                "Hello.",
                additional_kwargs={"refusal": None, "reasoning_content": "hm"},
                response_metadata={"model_name": "other", "finish_reason": "stop"},
                id="run-1",
            ),
        ],
        ["user", "assistant", "user"],
    ),
}


@pytest.mark.parametrize(("history", "roles"), ODD.values(), ids=ODD)
def test_an_odd_history(
    chat: Chat, bridge: RunningBridge, marker: str, history: list[BaseMessage], roles: list[str]
) -> None:
    asked = HumanMessage(f"{marker} {sim(text='Fine.')}")
    answer = chat().bind_tools([add, today]).invoke([*history, asked])
    assert answer.content == "Fine."
    turns = upstream(bridge, marker)
    assert [turn["role"] for turn in turns] == roles
    results = [
        block
        for turn in turns
        for block in turn["content"]
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]
    assert len(results) == sum(isinstance(message, ToolMessage) for message in history)


def test_an_image(chat: Chat, bridge: RunningBridge, marker: str, png_image: bytes) -> None:
    data = base64.b64encode(png_image).decode()
    answer = chat().invoke(
        [
            HumanMessage(
                [
                    {"type": "text", "text": f"{marker} {sim(text='A dot.')}"},
                    {"type": "image", "base64": data, "mime_type": "image/png"},
                ]
            )
        ]
    )
    assert answer.content == "A dot."
    (turn,) = upstream(bridge, marker)
    (image,) = [block for block in turn["content"] if block["type"] == "image"]
    assert image["source"]["data"] == data


def test_errors_are_openais(chat: Chat, marker: str) -> None:
    with pytest.raises(openai.NotFoundError):
        chat("claude-nonexistent-9").invoke("x")
    with pytest.raises(openai.BadRequestError):
        chat().invoke("x " + sim(error={"status": 400}))
    with pytest.raises(openai.APIError):
        list(chat().stream(f"{marker} {sim(tokens=9, error_after=5)}"))


def test_the_schema_that_arrives(chat: Chat, bridge: RunningBridge, marker: str) -> None:
    chat().with_structured_output(Person).invoke(f"{marker} {sim(json=ADA)}")
    body = bridge.simulator.ledger.exchanges(containing=marker)[-1].body
    properties = body["output_config"]["format"]["schema"]["properties"]
    assert json.dumps(properties["name"]).count("What they are called.") == 1
