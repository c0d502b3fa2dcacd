"""The Responses API of OpenAI's own client, through the real CLI."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.responses import FunctionToolParam, Response, ResponseInputParam
from pydantic import BaseModel, Field

from tests.support.harness import PATIENCE, RunningBridge, sim
from tests.support.http.response_events import CheckedStream, check_stream

TWO_CALLS = [{"name": "weather", "input": {"city": "Oslo"}}, {"name": "clock"}]
TOOLS: list[FunctionToolParam] = [
    {
        "type": "function",
        "name": "weather",
        "description": "Says the weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
        "strict": False,
    },
    {"type": "function", "name": "clock", "parameters": None, "strict": False},
]


class Person(BaseModel):
    """Someone."""

    name: str
    age: int = Field(ge=0)


class Team(BaseModel):
    """Nested models, lists and unions."""

    people: list[Person]
    kind: Literal["small", "large"]
    lead: Person | None


TEAM = {"people": [{"name": "Ada", "age": 36}], "kind": "small", "lead": None}


@contextmanager
def connected(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with connected(base_url) as client:
        yield client


@pytest.fixture
async def async_client(base_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


def upstream(bridge: RunningBridge, marker: str) -> list[Any]:
    """The user's and the assistant's turns in the last request of a conversation."""
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    return [message for message in exchange.messages if message["role"] != "system"]


def said(messages: list[Any]) -> list[tuple[str, list[Any]]]:
    """Turns without the marks for the prompt cache, which are the CLI's affair."""
    plain = json.loads(json.dumps(messages))
    for message in plain:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        for block in message["content"]:
            block.pop("cache_control", None)
    return [(message["role"], message["content"]) for message in plain]


def session_of(bridge: RunningBridge, response: Response) -> str:
    """How the session was got that made a response."""
    records = [json.loads(line) for line in bridge.log_path.read_text().splitlines()]
    (record,) = [each for each in records if each["request_id"] == response._request_id]
    return str(record["session"])


def streamed(base_url: str, **body: Any) -> CheckedStream:
    """A whole stream, byte by byte, held against the client's types."""
    reply = httpx.post(f"{base_url}/responses", json={**body, "stream": True}, timeout=PATIENCE)
    assert reply.status_code == 200, reply.text
    return check_stream(reply.content)


def test_a_response_is_made(client: openai.OpenAI, bridge: RunningBridge, marker: str) -> None:
    response = client.responses.create(
        model="opus", instructions=f"Be {marker}.", input="Hi " + sim(text="Hello there.")
    )

    assert response.output_text == "Hello there."
    assert response.status == "completed"
    assert response.model.startswith("claude-")
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert f"Be {marker}." in exchange.system_text


async def test_an_async_client_is_answered(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.responses.create(
        model="opus", input=sim(tokens=20), stream=True, store=False
    )
    text = [event.delta async for event in stream if event.type == "response.output_text.delta"]

    assert len(text) >= 20
    assert "".join(text) == "".join(f"w{number} " for number in range(20))


def test_the_assistants_words_come_with_the_outputs_of_a_response_before(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    first = client.responses.create(
        model="opus", input=f"{marker} {sim(tools=TWO_CALLS)}", tools=TOOLS
    )
    calls = [item for item in first.output if item.type == "function_call"]
    outputs: list[Any] = [
        {"type": "function_call_output", "call_id": call.call_id, "output": sim(text="Warm.")}
        for call in calls
    ]
    words: Any = {"role": "assistant", "content": "I asked both."}

    second = client.responses.create(
        model="opus", input=[words, *outputs], previous_response_id=first.id, tools=TOOLS
    )

    assert second.output_text == "Warm."
    _, (_, answer), (_, results) = said(upstream(bridge, marker))
    # Claude Code puts a turn's text before its calls.
    assert [block["type"] for block in answer] == ["text", "tool_use", "tool_use"]
    assert answer[0]["text"] == "I asked both."
    assert [block["type"] for block in results] == ["tool_result", "tool_result"]


def test_input_tokens_are_counted(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    words = "word " * 2_000
    few = client.responses.input_tokens.count(model="opus", instructions="Count.", input="Hi")
    many = client.responses.input_tokens.count(
        model="opus", instructions="Count.", input=f"{marker} {words}", tools=TOOLS
    )

    assert many.object == "response.input_tokens"
    assert 0 < few.input_tokens < many.input_tokens - 2_000
    assert bridge.simulator.ledger.exchanges(containing=marker) == ()


def test_a_conversation_is_compacted_and_goes_on(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    summary = f"They like {marker} rivers."
    history: list[Any] = [
        {"role": "user", "content": f"I like rivers. {sim(text=summary)}"},
        {"role": "assistant", "content": "long words " * 100},
    ]
    compacted = client.responses.compact(model="opus", input=history)
    assert [item.type for item in compacted.output] == ["message", "compaction"]
    assert compacted.usage.output_tokens > 0
    # What came of it is handed back as it is.
    output: list[Any] = [item.to_dict(warnings=False) for item in compacted.output]
    question: Any = {"role": "user", "content": "What do I like? " + sim(text="Rivers.")}

    response = client.responses.create(model="opus", input=[*output, question])

    assert response.output_text == "Rivers."
    ((role, blocks),) = said(upstream(bridge, "What do I like?"))
    assert role == "user"
    assert [summary in block["text"] for block in blocks] == [True, True, False]
    assert "long words" not in str(blocks)


def test_a_response_compacts_when_its_input_says_so(client: openai.OpenAI) -> None:
    first = client.responses.create(model="opus", input=sim(text="Summed up."))
    trigger: ResponseInputParam = [{"type": "compaction_trigger"}]
    events = list(
        client.responses.create(
            model="opus", input=trigger, previous_response_id=first.id, tools=TOOLS, stream=True
        )
    )

    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert [item.type for item in done] == ["compaction"]
    assert events[-1].type == "response.completed"
    assert events[-1].response.output == done


def test_every_event_of_a_stream_is_in_order(base_url: str) -> None:
    checked = streamed(
        base_url,
        model="opus",
        input=sim(thinking="Let me see.", text="I look.", tools=TWO_CALLS),
        tools=TOOLS,
        reasoning={"summary": "auto"},
    )

    kinds = [item["type"] for item in checked.last["output"]]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    assert checked.types.count("response.function_call_arguments.delta") > 2
    assert checked.last["output"][0]["summary"][0]["text"] == "Let me see."
    assert json.loads(checked.last["output"][2]["arguments"]) == {"city": "Oslo"}
    assert json.loads(checked.last["output"][3]["arguments"]) == {}


def test_a_stream_that_breaks_ends_in_both_events_for_it(base_url: str) -> None:
    checked = streamed(base_url, model="opus", input=sim(tokens=20, error_after=5))

    assert checked.types[-2:] == ["error", "response.failed"]
    assert checked.last["output"][0]["status"] == "incomplete"


def test_the_helper_for_streams_gathers_the_response(client: openai.OpenAI) -> None:
    asked = sim(text="I look.", tools=TWO_CALLS)
    with client.responses.stream(model="opus", input=asked, tools=TOOLS) as stream:
        kinds = {event.type for event in stream}
        response = stream.get_final_response()

    assert {"response.output_text.delta", "response.function_call_arguments.delta"} <= kinds
    assert response.output_text == "I look."
    assert [item.name for item in response.output if item.type == "function_call"] == [
        "weather",
        "clock",
    ]


@pytest.mark.parametrize("model", ["opus", "haiku"])
def test_an_answer_is_parsed(client: openai.OpenAI, model: str, marker: str) -> None:
    response = client.responses.parse(
        model=model, input=f"{marker} Who? {sim(json=TEAM)}", text_format=Team
    )

    assert response.output_parsed == Team.model_validate(TEAM)
    again = client.responses.create(
        model=model, input=f"And now? {sim(text='No more.')}", previous_response_id=response.id
    )
    assert again.output_text == "No more."


def test_a_loop_of_tools(client: openai.OpenAI, bridge: RunningBridge, marker: str) -> None:
    asked = f"{marker} {sim(turns=[{'text': 'I look.', 'tools': TWO_CALLS}, {'text': 'Rain.'}])}"
    first = client.responses.create(model="opus", input=asked, tools=TOOLS)
    outputs: ResponseInputParam = [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"of {item.name}"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = client.responses.create(
        model="opus", input=outputs, tools=TOOLS, previous_response_id=first.id
    )

    assert second.output_text == "Rain."
    assert session_of(bridge, second) == "continued"
    (_, question), (_, answer), (_, results) = said(upstream(bridge, marker))
    assert question[-1]["text"] == asked
    assert [block["type"] for block in answer if block["type"] != "thinking"] == [
        "text",
        "tool_use",
        "tool_use",
    ]
    assert [json.dumps(block["content"]).count("of ") for block in results] == [1, 1]


def test_a_loop_of_tools_by_items_alone(client: openai.OpenAI, marker: str) -> None:
    turns = [{"text": "I look.", "tools": TWO_CALLS[:1]}, {"text": "Rain."}]
    items: Any = [{"role": "user", "content": f"{marker} {sim(turns=turns)}"}]
    first = client.responses.create(model="opus", input=items, tools=TOOLS, store=False)
    items += first.output
    items += [
        {"type": "function_call_output", "call_id": item.call_id, "output": "wet"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = client.responses.create(model="opus", input=items, tools=TOOLS, store=False)

    assert second.output_text == "Rain."


def test_a_forced_call(client: openai.OpenAI, bridge: RunningBridge, marker: str) -> None:
    response = client.responses.create(
        # The one that takes a forced choice.
        model="haiku",
        input=f"{marker} {sim(tools=TWO_CALLS[:1])}",
        tools=TOOLS,
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
    )

    (call,) = [item for item in response.output if item.type == "function_call"]
    assert call.name == "weather"
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    choice = exchange.body["tool_choice"]
    assert choice["name"].endswith("weather")
    assert choice["disable_parallel_tool_use"] is True


def test_a_conversation_is_continued_and_a_branch_is_replayed_alike(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    # A system prompt of its own, so that it does not go by the habits of other tests.
    always: dict[str, Any] = {"model": "opus", "instructions": f"You are {marker}."}
    first = client.responses.create(**always, input=f"{marker} {sim(text='One.')}")
    bridge.wait_until_settled()
    asked: dict[str, Any] = {
        **always,
        "input": f"And? {sim(text='Two.')}",
        "previous_response_id": first.id,
    }
    continued = client.responses.create(**asked)
    seen = said(upstream(bridge, marker))
    branch = client.responses.create(**asked)

    assert session_of(bridge, continued) == "continued"
    assert session_of(bridge, branch) != "continued"
    assert continued.output_text == branch.output_text == "Two."
    assert said(upstream(bridge, marker)) == seen
    assert [role for role, _ in seen] == ["user", "assistant", "user"]


def test_settings_reach_the_model_and_a_limit_leaves_it_incomplete(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    response = client.responses.create(
        model="opus",
        input=f"{marker} {sim(tokens=50)}",
        max_output_tokens=3,
        reasoning={"effort": "low"},
    )

    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text.split() == ["w0", "w1", "w2"]
    body = bridge.simulator.ledger.exchanges(containing=marker)[-1].body
    assert (body["max_tokens"], body["output_config"]["effort"]) == (3, "low")
    more = client.responses.create(
        model="opus", input=sim(text="More."), previous_response_id=response.id
    )
    assert more.output_text == "More."


def test_images_and_files_arrive(
    client: openai.OpenAI, bridge: RunningBridge, png_image: bytes, marker: str
) -> None:
    url = f"data:image/png;base64,{base64.b64encode(png_image).decode()}"
    pdf = base64.b64encode(b"%PDF-1.4 nothing").decode()
    content: Any = [
        {"type": "input_text", "text": f"{marker} {sim(text='Seen.')}"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": pdf},
    ]
    first = client.responses.create(model="opus", input=[{"role": "user", "content": content}])
    client.responses.create(model="opus", input="And?", previous_response_id=first.id)

    kinds = [block["type"] for block in said(upstream(bridge, marker))[0][1]]
    assert [kind for kind in kinds if kind != "text"] == ["image", "document"]


def test_what_is_kept_is_read_and_deleted(client: openai.OpenAI) -> None:
    first = client.responses.create(model="opus", input=sim(text="One."), metadata={"a": "b"})
    second = client.responses.create(
        model="opus", input=sim(text="Two."), previous_response_id=first.id
    )

    assert client.responses.retrieve(first.id) == first
    listed = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    assert [item.type for item in listed] == ["message"] * 3
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(first.id)
    client.responses.delete(first.id)
    works: list[Callable[[], object]] = [
        lambda: client.responses.retrieve(first.id),
        lambda: client.responses.create(input="x", model="opus", previous_response_id=first.id),
        lambda: client.responses.create(input="x", model="opus", previous_response_id=second.id),
    ]
    for work in works:
        with pytest.raises(openai.NotFoundError, match="not found"):
            work()


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(
            model="opus",
            input="x",
            tools=[{"type": "web_search"}],
            tool_choice={"type": "web_search_preview"},
        )
    assert (refused.value.param, refused.value.code) == ("tool_choice.type", "unsupported_value")
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="claude-made-up-9", input="x")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as schema:
        client.responses.create(
            model="opus",
            input="x",
            text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "array"}}},
        )
    assert schema.value.param == "text.format"


def test_a_conversation_continues_at_another_server(
    start_bridge: Callable[..., RunningBridge], marker: str
) -> None:
    small: dict[str, Any] = {"pool_size": 1, "bridge_spares": 0, "bridge_max_processes": 1}
    before = start_bridge(**small)
    with connected(f"{before.url}/v1") as client:
        first = client.responses.create(model="opus", input=f"{marker} {sim(text='One.')}")
    before.stop()

    state = before.settings.bridge_state_dir
    assert (state / "responses.sqlite3").stat().st_mode & 0o777 == 0o600
    after = start_bridge(**small, bridge_state_dir=state)
    with connected(f"{after.url}/v1") as client:
        assert client.responses.retrieve(first.id).output_text == "One."
        second = client.responses.create(
            model="opus", input=sim(text="Two."), previous_response_id=first.id
        )

    assert second.output_text == "Two."
    assert [role for role, _ in said(upstream(after, marker))] == ["user", "assistant", "user"]
