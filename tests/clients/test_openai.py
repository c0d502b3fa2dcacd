"""OpenAI's own client through the real CLI: its helpers, its loops, its errors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
    ParsedFunctionToolCall,
)
from pydantic import BaseModel, Field

from tests.support.harness import LONG, PATIENCE, RunningBridge, sim


class Person(BaseModel):
    """Someone."""

    name: str
    age: int = Field(ge=0)


class Step(BaseModel):
    """One step of a way to an answer."""

    why: str
    result: float | None


class Way(BaseModel):
    """Nested models, lists, enumerations and unions: what real schemas are made of."""

    steps: list[Step]
    kind: Literal["sum", "product"]
    checked_by: Person | None


class GetWeather(BaseModel):
    """Say the weather of a place."""

    city: str
    unit: Literal["C", "F"] = "C"


WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says the weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK: ChatCompletionToolParam = {"type": "function", "function": {"name": "clock"}}
TWO_CALLS = [{"name": "weather", "input": {"city": "Oslo"}}, {"name": "clock"}]


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=base_url, api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


@pytest.fixture
async def async_client(base_url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=base_url, api_key="unused", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


def ask(said: str, **directive: Any) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"{said} {sim(**directive)}"}]


def results(bridge: RunningBridge, marker: str) -> list[tuple[str, str]]:
    """The tool results that reached the model last: by the id of the call, their text."""
    messages = bridge.simulator.ledger.exchanges(containing=marker)[-1].messages
    found = []
    for message in messages:
        # What the CLI adds by itself comes as plain text.
        blocks = message["content"] if isinstance(message["content"], list) else []
        for block in blocks:
            if block["type"] == "tool_result":
                content = block["content"]
                text = content if isinstance(content, str) else content[0]["text"]
                found.append((block["tool_use_id"], text))
    return found


# ------------------------------------------------------------------------------------ answers


def test_a_whole_answer(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="default", messages=ask("Hi", text="Hello."))
    choice = reply.choices[0]
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello.")
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_the_stream_helper_reports_the_events(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="default",
        messages=ask("Count", tokens=30),
        stream_options={"include_usage": True},
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    kinds = [event.type for event in events]
    assert kinds.count("content.delta") >= 30
    assert kinds.count("content.done") == 1
    assert kinds.index("content.done") > kinds.index("content.delta")
    content = "".join(f"w{number} " for number in range(30))
    assert "".join(e.delta for e in events if e.type == "content.delta") == content
    assert [e.content for e in events if e.type == "content.done"] == [content]
    assert final.choices[0].message.content == content
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    assert final.usage.completion_tokens == 30


async def test_the_async_stream_helper(async_client: openai.AsyncOpenAI) -> None:
    async with async_client.chat.completions.stream(
        model="default", messages=ask("Count", tokens=5)
    ) as stream:
        await stream.until_done()
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "w0 w1 w2 w3 w4 "


async def test_several_at_once_each_get_their_own(async_client: openai.AsyncOpenAI) -> None:
    replies = await asyncio.gather(
        *(
            async_client.chat.completions.create(
                model="default", messages=ask("Hi", text=f"answer {number}")
            )
            for number in range(6)
        )
    )
    assert [reply.choices[0].message.content for reply in replies] == [
        f"answer {number}" for number in range(6)
    ]


def test_an_answer_object_can_be_sent_back(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    messages = ask(marker, text="First.")
    first = client.chat.completions.create(model="default", messages=messages)
    # As the client's own documentation does it: the object, with all its empty fields.
    history: Any = [*messages, first.choices[0].message, *ask("And?", text="Second.")]
    second = client.chat.completions.create(
        model="default", messages=history, extra_headers={"x-bridge-strict": "true"}
    )
    assert second.choices[0].message.content == "Second."
    sent = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    assert [role for role in sent.roles if role != "system"] == ["user", "assistant", "user"]


def test_an_image_arrives_as_it_is(
    client: openai.OpenAI, bridge: RunningBridge, marker: str, png_image: bytes
) -> None:
    png = base64.b64encode(png_image).decode()
    reply = client.chat.completions.create(
        model="default",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": f"What is this? {marker} {sim(text='A dot.')}"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}},
                ],
            }
        ],
    )
    assert reply.choices[0].message.content == "A dot."
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    blocks = [b for m in exchange.messages if m["role"] == "user" for b in m["content"]]
    (image,) = [block for block in blocks if block["type"] == "image"]
    assert image["source"] == {"type": "base64", "media_type": "image/png", "data": png}


def test_an_answer_that_reaches_its_limit(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="default", messages=ask("Count", tokens=50), max_completion_tokens=7
    )
    assert reply.choices[0].finish_reason == "length"
    assert reply.choices[0].message.content == "w0 w1 w2 w3 w4 w5 w6 "


# -------------------------------------------------------------------------------------- tools


def test_a_loop_over_parallel_calls(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    messages = ask(marker, turns=[{"text": "I look.", "tools": TWO_CALLS}, {"text": "Sunny at 9."}])
    first = client.chat.completions.create(
        model="default", messages=messages, tools=[WEATHER, CLOCK]
    )
    assert first.choices[0].finish_reason == "tool_calls"
    assert first.choices[0].message.content == "I look."
    calls = [
        call
        for call in first.choices[0].message.tool_calls or ()
        if isinstance(call, ChatCompletionMessageFunctionToolCall)
    ]
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("weather", {"city": "Oslo"}),
        ("clock", {}),
    ]
    history: Any = [
        *messages,
        first.choices[0].message,
        # In an order of the caller's own.
        {"role": "tool", "tool_call_id": calls[1].id, "content": "9:00"},
        {"role": "tool", "tool_call_id": calls[0].id, "content": "sunny"},
    ]
    second = client.chat.completions.create(
        model="default", messages=history, tools=[WEATHER, CLOCK]
    )
    assert second.choices[0].message.content == "Sunny at 9."
    assert second.choices[0].finish_reason == "stop"
    assert sorted(text for _, text in results(bridge, marker)) == ["9:00", "sunny"]


def test_calls_pile_up_from_a_stream(client: openai.OpenAI, marker: str) -> None:
    with client.chat.completions.stream(
        model="default",
        messages=ask(marker, text="I look.", tools=TWO_CALLS),
        tools=[_strict(WEATHER), _strict(CLOCK)],
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [(event.index, event.name, event.parsed_arguments) for event in done] == [
        (0, "weather", {"city": "Oslo"}),
        (1, "clock", {}),
    ]
    deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    pieces = [event.arguments_delta for event in deltas if event.index == 0]
    assert len(pieces) > 1
    assert json.loads("".join(pieces)) == {"city": "Oslo"}
    message = final.choices[0].message
    assert message.content == "I look."
    assert [call.function.name for call in message.tool_calls or ()] == ["weather", "clock"]
    assert final.choices[0].finish_reason == "tool_calls"


async def test_a_loop_of_several_rounds_from_streams(
    async_client: openai.AsyncOpenAI, bridge: RunningBridge, marker: str
) -> None:
    rounds = [{"tools": [{"name": "weather", "input": {"city": city}}]} for city in ("A", "B", "C")]
    messages: list[Any] = [*ask(marker, turns=[*rounds, {"text": "All done."}])]
    asked = []
    while True:
        async with async_client.chat.completions.stream(
            model="default", messages=messages, tools=[_strict(WEATHER)]
        ) as stream:
            message = (await stream.get_final_completion()).choices[0].message
        messages.append(message)
        for call in message.tool_calls or ():
            city = json.loads(call.function.arguments)["city"]
            asked.append(city)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"fair in {city}"})
        if not message.tool_calls:
            break
    assert asked == ["A", "B", "C"]
    assert message.content == "All done."
    assert [text for _, text in results(bridge, marker)] == [f"fair in {c}" for c in "ABC"]


@pytest.mark.parametrize("model", ["default", "haiku"])
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_call_that_must_be_made_is_made(
    client: openai.OpenAI, model: str, choice: Any, marker: str
) -> None:
    reply = client.chat.completions.create(
        model=model,
        messages=ask(marker, tools=[{"name": "weather", "input": {"city": "Oslo"}}]),
        tools=[WEATHER, CLOCK],
        tool_choice=choice,
    )
    (call,) = reply.choices[0].message.tool_calls or []
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    assert call.function.name == "weather"
    assert reply.choices[0].finish_reason in ("tool_calls", "stop")


def test_the_deprecated_functions(client: openai.OpenAI, marker: str) -> None:
    messages = ask(
        marker,
        turns=[{"tools": [{"name": "weather", "input": {"city": "Oslo"}}]}, {"text": "Sunny."}],
    )
    functions: Any = [WEATHER["function"]]
    first = client.chat.completions.create(model="default", messages=messages, functions=functions)
    assert first.choices[0].finish_reason == "function_call"
    assert first.choices[0].message.function_call is not None
    history: Any = [
        *messages,
        first.choices[0].message,
        {"role": "function", "name": "weather", "content": "sunny"},
    ]
    second = client.chat.completions.create(model="default", messages=history, functions=functions)
    assert second.choices[0].message.content == "Sunny."


# ------------------------------------------------------------------------------------- shapes


def test_parse_gives_a_model_of_the_callers(
    client: openai.OpenAI, bridge: RunningBridge, marker: str
) -> None:
    reply = client.chat.completions.parse(
        model="default",
        messages=ask(marker, json={"name": "Ada", "age": 36}),
        response_format=Person,
    )
    assert reply.choices[0].message.parsed == Person(name="Ada", age=36)
    sent = bridge.simulator.ledger.exchanges(containing=marker)[-1].body
    assert sent["output_config"]["format"]["type"] == "json_schema"


def test_parse_with_nested_models(client: openai.OpenAI) -> None:
    way = Way(
        steps=[Step(why="two and two", result=4.0), Step(why="no more", result=None)],
        kind="sum",
        checked_by=Person(name="Ada", age=36),
    )
    reply = client.chat.completions.parse(
        model="default", messages=ask("How?", json=way.model_dump()), response_format=Way
    )
    assert reply.choices[0].message.parsed == way


def test_parse_with_any_answer(client: openai.OpenAI, marker: str) -> None:
    reply = client.chat.completions.parse(
        model="default",
        messages=[{"role": "user", "content": f"{marker} Who?"}],
        response_format=Way,
    )
    assert isinstance(reply.choices[0].message.parsed, Way)


def test_a_stream_is_parsed_as_it_comes(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="default",
        messages=ask("Who?", json={"name": "Ada", "age": 36}),
        response_format=Person,
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    (done,) = [event for event in events if event.type == "content.done"]
    assert done.parsed == Person(name="Ada", age=36)
    assert final.choices[0].message.parsed == Person(name="Ada", age=36)


def test_parse_with_tools_of_the_callers(client: openai.OpenAI) -> None:
    reply = client.chat.completions.parse(
        model="default",
        messages=ask("Weather?", tools=[{"name": "GetWeather", "input": {"city": "Oslo"}}]),
        tools=[openai.pydantic_function_tool(GetWeather)],
    )
    (call,) = reply.choices[0].message.tool_calls or []
    assert isinstance(call, ParsedFunctionToolCall)
    assert call.function.parsed_arguments == GetWeather(city="Oslo")


async def test_parse_with_tools_and_a_shape(async_client: openai.AsyncOpenAI, marker: str) -> None:
    tools = [openai.pydantic_function_tool(GetWeather)]
    messages: list[Any] = [
        *ask(
            marker,
            turns=[
                {"tools": [{"name": "GetWeather", "input": {"city": "Oslo", "unit": "F"}}]},
                {"json": {"name": "Ada", "age": 36}},
            ],
        )
    ]
    first = await async_client.chat.completions.parse(
        model="default", messages=messages, tools=tools, response_format=Person
    )
    (call,) = first.choices[0].message.tool_calls or []
    assert first.choices[0].message.parsed is None
    messages += [
        first.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "Ada, 36, says it is sunny."},
    ]
    second = await async_client.chat.completions.parse(
        model="default", messages=messages, tools=tools, response_format=Person
    )
    assert second.choices[0].message.parsed == Person(name="Ada", age=36)


def test_a_json_object(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="default",
        messages=ask("JSON, please.", text='Sure:\n```json\n{"a": [1, 2]}\n```'),
        response_format={"type": "json_object"},
    )
    assert json.loads(reply.choices[0].message.content or "") == {"a": [1, 2]}


def test_parse_raises_for_an_answer_that_was_too_long(client: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError) as caught:
        client.chat.completions.parse(
            model="default",
            messages=ask("Who?", text='{"name": "' + "A" * 400),
            response_format=Person,
            max_completion_tokens=5,
        )
    assert caught.value.completion.choices[0].finish_reason == "length"


def test_parse_returns_the_refusal(client: openai.OpenAI) -> None:
    with pytest.raises(openai.ContentFilterFinishReasonError):
        client.chat.completions.parse(
            model="default",
            messages=ask("Who?", text="I cannot", stop_reason="refusal"),
            response_format=Person,
        )


# ------------------------------------------------------------------------------------- errors

UPSTREAM = [
    (400, "invalid_request_error", False, openai.BadRequestError, 400),
    (400, "invalid_request_error", True, openai.BadRequestError, 400),
    (413, "request_too_large", False, openai.APIStatusError, 413),
    (429, "rate_limit_error", True, openai.RateLimitError, 429),
    pytest.param(
        *(401, "authentication_error", False, openai.InternalServerError, 503), marks=LONG
    ),
]


@pytest.mark.parametrize(("status", "kind", "stream", "expected", "seen"), UPSTREAM)
def test_an_upstream_error_is_the_clients_own_exception(
    client: openai.OpenAI,
    status: int,
    kind: str,
    stream: bool,
    expected: type[openai.APIStatusError],
    seen: int,
) -> None:
    with pytest.raises(expected) as caught:
        client.chat.completions.create(
            model="default",
            messages=ask("x", error={"status": status, "type": kind, "message": "scripted"}),
            stream=stream,
        )
    assert caught.value.status_code == seen
    _check_envelope(caught.value)


def _check_envelope(error: openai.APIStatusError) -> None:
    assert isinstance(error.body, dict)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id is not None
    assert error.request_id.startswith("req_")


REFUSED: list[tuple[dict[str, Any], type[openai.APIStatusError], str | None]] = [
    ({"n": 2}, openai.BadRequestError, "n"),
    ({"messages": []}, openai.BadRequestError, "messages"),
    ({"temperature": 3}, openai.BadRequestError, "temperature"),
    ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice"),
    ({"model": "claude-nonexistent-9"}, openai.NotFoundError, "model"),
    ({"stop": ["a", "b", "c", "d", "e"]}, openai.BadRequestError, "stop"),
    ({"modalities": ["audio"]}, openai.BadRequestError, "modalities"),
]


@pytest.mark.parametrize(
    ("change", "expected", "param"), REFUSED, ids=[next(iter(row[0])) for row in REFUSED]
)
def test_what_is_refused_is_the_clients_own_exception(
    client: openai.OpenAI,
    change: dict[str, Any],
    expected: type[openai.APIStatusError],
    param: str | None,
) -> None:
    with pytest.raises(expected) as caught:
        client.chat.completions.create(
            **{"model": "default", "messages": ask("x", text="y"), **change}
        )
    assert caught.value.param == param
    _check_envelope(caught.value)


def test_a_deadline(client: openai.OpenAI, marker: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model="default",
            messages=ask(marker, hang=True),
            extra_headers={"x-bridge-timeout": "1"},
        )
    assert caught.value.status_code == 504
    _check_envelope(caught.value)


def test_a_stream_that_ends_prematurely_is_an_error(client: openai.OpenAI, marker: str) -> None:
    stream = client.chat.completions.create(
        model="default", messages=ask(marker, tokens=9, error_after=5), stream=True
    )
    seen = []
    with pytest.raises(openai.APIError) as caught:
        seen += [chunk.choices[0].delta.content for chunk in stream]
    assert caught.value.code is not None


async def test_a_stream_that_is_left_is_ended_upstream(
    async_client: openai.AsyncOpenAI, bridge: RunningBridge, marker: str
) -> None:
    async with async_client.chat.completions.stream(
        model="default", messages=ask(marker, tokens=3, hang_after=2)
    ) as stream:
        async for event in stream:
            if event.type == "content.delta":
                break
    await bridge.simulator.ledger.wait_for_async(
        lambda all_: any(x.contains(marker) and x.ended == "client_closed" for x in all_), PATIENCE
    )


USED_UP = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": "4102444800",
    "anthropic-ratelimit-unified-representative-claim": "five_hour",
}


@pytest.mark.parametrize(
    ("directive", "headers", "tries"),
    [
        # Too many for the moment: later there is room again. Before the limit of the account, since
        # Claude Code takes each 429 after that for the same until a request succeeds.
        ({"error": {"status": 429}}, {}, 2),
        # Each further try would be another turn on the plan, and fail again.
        ({"error": {"status": 429, "message": "used up", "headers": USED_UP}}, {}, 1),
        ({"error": {"status": 400}}, {}, 1),
        ({"hang": True}, {"x-bridge-timeout": "1"}, 1),
    ],
    ids=["rate limit", "plan limit", "bad request", "deadline"],
)
def test_the_client_tries_again_where_that_helps_and_nowhere_else(
    base_url: str,
    directive: dict[str, Any],
    headers: dict[str, str],
    tries: int,
    marker: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[object] = []
    waits: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", waits.append)
    with (
        openai.DefaultHttpx2Client(event_hooks={"request": [sent.append]}) as http,
        openai.OpenAI(
            base_url=base_url, api_key="unused", max_retries=1, timeout=PATIENCE, http_client=http
        ) as client,
        pytest.raises(openai.APIStatusError),
    ):
        client.chat.completions.create(
            model="default", messages=ask(marker, **directive), extra_headers=headers
        )
    assert len(sent) == tries
    # As long as the server asks, and not the half second that is the client's own.
    assert len(waits) == tries - 1
    assert all(wait > 5 for wait in waits)


# ------------------------------------------------------------------------------------ headers


def test_the_headers_of_a_reply(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="default", messages=ask("Hi", text="Hello."), seed=7, logit_bias={"50256": -100}
    )
    reply = raw.parse()
    assert reply.choices[0].message.content == "Hello."
    assert raw.headers["content-type"] == "application/json"
    assert reply._request_id == raw.request_id == raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert set(raw.headers["x-bridge-ignored-params"].split(",")) == {"seed", "logit_bias"}


def test_the_headers_of_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="default", messages=ask("Hi", text="Hello."), stream=True, seed=7
    ) as raw:
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert raw.headers["x-bridge-ignored-params"] == "seed"
        lines = [line for line in raw.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"


# ----------------------------------------------------------------------------- other endpoints


def test_a_legacy_completion(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="default", prompt="Say " + sim(text="it."))
    assert reply.object == "text_completion"
    assert (reply.choices[0].text, reply.choices[0].finish_reason) == ("it.", "stop")
    assert reply.usage is not None


def test_a_streamed_legacy_completion(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model="default", prompt=["Say " + sim(tokens=9)], stream=True, max_tokens=4
    )
    choices = [chunk.choices[0] for chunk in stream]
    assert "".join(choice.text for choice in choices) == "w0 w1 w2 w3 "
    assert choices[-1].finish_reason == "length"


def test_models(client: openai.OpenAI) -> None:
    models = list(client.models.list())
    assert {"default", "opus", "sonnet", "haiku"} <= {model.id for model in models}
    assert all(model.created > 0 for model in models)
    for model in models:
        assert client.models.retrieve(model.id).id == model.id
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("claude-nonexistent-9")
    assert caught.value.code == "model_not_found"


async def test_models_async(async_client: openai.AsyncOpenAI) -> None:
    assert "default" in [model.id async for model in async_client.models.list()]


def _strict(tool: Any) -> Any:
    """The same tool as the client's parsing helpers want it."""
    function = tool["function"]
    closed = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    parameters = {**closed, **function.get("parameters", {})}
    return {**tool, "function": {**function, "parameters": parameters, "strict": True}}
