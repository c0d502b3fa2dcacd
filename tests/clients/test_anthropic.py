"""Anthropic's own client through the real CLI: its helpers, its loops, its errors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import beta_tool
from anthropic.types import MessageParam, ToolParam
from pydantic import BaseModel

from tests.support.harness import LONG, PATIENCE, RunningBridge, sim
from tests.support.http.upstream import spoken, upstream

WEATHER: ToolParam = {
    "name": "weather",
    "description": "Says the weather of a place.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
CALL = {"name": "weather", "input": {"city": "Oslo"}, "id": "toolu_1", "fragment": 5}


class Person(BaseModel):
    """Someone."""

    name: str
    age: int


@pytest.fixture
def client(bridge: RunningBridge) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=bridge.url, api_key="any", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


@pytest.fixture
async def aclient(bridge: RunningBridge) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=bridge.url, auth_token="any", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


def user(text: str) -> MessageParam:
    return {"role": "user", "content": text}


def asked(*messages: MessageParam, **more: Any) -> dict[str, Any]:
    return {"model": "opus", "max_tokens": 999, "messages": list(messages), **more}


def test_a_message(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(**asked(user(sim(text="Good day"))))
    message = raw.parse()

    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "Good day"}]
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 2
    assert message.model.startswith("claude-opus-")
    assert raw.headers["request-id"] == message._request_id


def test_settings_reach_the_model(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str
) -> None:
    client.messages.create(
        **asked(
            user(f"{marker} " + sim(text="a")),
            system=[{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}],
            stop_sequences=["END"],
            output_config={"effort": "low"},
        )
    )
    body = upstream(bridge, marker)

    assert body["max_tokens"] == 999
    assert body["stop_sequences"] == ["END"]
    assert body["output_config"] == {"effort": "low"}
    assert body["system"][-1]["text"] == "Be kind.\nBe brief."


def test_top_k_reaches_the_model(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str
) -> None:
    question = user(f"{marker} " + sim(text="a"))
    request = asked(question, extra_body={"top_k": 5})
    older = client.messages.with_raw_response.create(**request | {"model": "claude-haiku-4-5"})
    passed = upstream(bridge, marker)
    newer = client.messages.with_raw_response.create(**request)

    assert (passed["top_k"], passed["model"]) == (5, "claude-haiku-4-5")
    assert "x-bridge-ignored-params" not in older.headers
    assert "top_k" not in upstream(bridge, marker)
    assert newer.headers["x-bridge-ignored-params"] == "top_k"


def test_thinking_off_with_an_effort(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str
) -> None:
    client.messages.create(
        **asked(
            user(f"{marker} " + sim(text="a")),
            thinking={"type": "disabled"},
            output_config={"effort": "high"},
        )
    )
    body = upstream(bridge, marker)

    assert "thinking" not in body or body["thinking"]["type"] == "disabled"
    assert body["output_config"] == {"effort": "high"}


def test_a_stream_by_its_helper(client: anthropic.Anthropic) -> None:
    question = user(sim(thinking="Let me see.", text="Good day", tools=[CALL]))
    with client.messages.stream(
        **asked(question, thinking={"type": "adaptive"}, tools=[WEATHER])
    ) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()

    thinking, text, call = message.content
    assert thinking.type == "thinking"
    assert (thinking.thinking, bool(thinking.signature)) == ("Let me see.", True)
    assert (text.type, getattr(text, "text", "")) == ("text", "Good day")
    assert (call.type, getattr(call, "input", {})) == ("tool_use", {"city": "Oslo"})
    assert message.stop_reason == "tool_use"
    assert kinds.count("content_block_stop") == 3
    assert {"thinking", "signature", "text", "input_json"} <= set(kinds)


async def test_the_async_client(aclient: anthropic.AsyncAnthropic) -> None:
    async with aclient.messages.stream(**asked(user(sim(tokens=50)))) as stream:
        pieces = [text async for text in stream.text_stream]
        message = await stream.get_final_message()
    whole = await aclient.messages.create(**asked(user(sim(text="b"))))

    assert len(pieces) == 50
    assert message.usage.output_tokens == 50
    assert getattr(whole.content[0], "text", "") == "b"


def test_an_answer_is_sent_back_with_its_thinking(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str
) -> None:
    question = user(f"{marker} " + sim(thinking="Hm.", text="two"))
    thinks: Any = {"thinking": {"type": "adaptive"}}
    answer = client.messages.create(**asked(question, **thinks))
    history = [question, answer.to_param(), user("three " + sim(text="four"))]
    # Another system prompt has another process, which gets the history replayed.
    client.messages.create(**asked(*history, system="Be kind.", **thinks))
    own = spoken(upstream(bridge, marker))
    raw = client.messages.with_raw_response.create(
        **asked(*history, **thinks) | {"model": "sonnet"}
    )
    others = spoken(upstream(bridge, marker))

    assert own[1]["content"] == [
        {
            "type": "thinking",
            "thinking": "Hm.",
            "signature": answer.content[0].to_dict()["signature"],
        },
        {"type": "text", "text": "two"},
    ]
    assert others[1]["content"] == [{"type": "text", "text": "two"}]
    assert raw.headers["x-bridge-ignored-params"] == "messages.content.thinking"


def test_a_conversation_goes_on_in_its_process(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str
) -> None:
    question = user(f"{marker} " + sim(thinking="Hm.", text="two", tools=[CALL]))
    options: Any = {"thinking": {"type": "adaptive"}, "tools": [WEATHER]}
    first = client.messages.create(**asked(question, **options))
    result: MessageParam = {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "content": sim(text="Sunny.", note=marker),
            }
        ],
    }
    before = bridge.bridge.service.pool_state().totals.sessions.get("continued", 0)
    second = client.messages.create(**asked(question, first.to_param(), result, **options))

    assert getattr(second.content[-1], "text", "") == "Sunny."
    after = bridge.bridge.service.pool_state().totals.sessions["continued"]
    assert after == before + 1


def test_the_callers_breakpoint_reaches_the_model(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str
) -> None:
    raw = client.messages.with_raw_response.create(
        **asked(
            {
                "role": "user",
                "content": [
                    {
                        "type": "text",
                        "text": f"{marker} long",
                        "cache_control": {"type": "ephemeral"},
                    }
                ],
            },
            {"role": "assistant", "content": "two"},
            user(sim(text="a")),
        )
    )
    first, _, last = upstream(bridge, marker)["messages"][:3]
    marks = [
        block
        for message in upstream(bridge, marker)["messages"]
        for block in message["content"]
        if "cache_control" in block
    ]

    assert first["content"][0]["cache_control"]["type"] == "ephemeral"
    assert "x-bridge-ignored-params" not in raw.headers
    assert len(marks) == 2
    assert last["role"] in ("assistant", "system", "user")


def test_the_tool_runner(client: anthropic.Anthropic) -> None:
    cities: list[str] = []

    @beta_tool
    def weather(city: str) -> str:
        """Say the weather of a place."""
        cities.append(city)
        return sim(text=f"It rains in {city}.")

    runner = client.beta.messages.tool_runner(
        **asked(user(sim(tools=[CALL]))), tools=[weather], betas=["new-feature-2026-01-01"]
    )
    last = runner.until_done()

    assert cities == ["Oslo"]
    assert getattr(last.content[-1], "text", "") == "It rains in Oslo."


def test_an_answer_is_parsed(client: anthropic.Anthropic) -> None:
    question = user(sim(json={"name": "Ada", "age": 36}))
    answer = client.messages.parse(**asked(question), output_format=Person)

    assert answer.parsed_output == Person(name="Ada", age=36)


def test_a_forced_tool(client: anthropic.Anthropic, bridge: RunningBridge, marker: str) -> None:
    message = client.messages.create(
        **asked(
            user(f"{marker} " + sim(tools=[CALL])),
            tools=[WEATHER],
            tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        )
        | {"model": "haiku"}
    )

    assert message.content[0].type == "tool_use"
    assert upstream(bridge, marker)["tool_choice"] == {
        "type": "tool",
        "name": "weather",
        "disable_parallel_tool_use": True,
    }


def test_images_and_documents(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str, png_image: bytes
) -> None:
    data = base64.b64encode(png_image).decode()
    blocks: Any = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
        {"type": "image", "source": {"type": "url", "url": "https://images.example/a.png"}},
        {
            "type": "document",
            "title": "T",
            "context": "C",
            "source": {"type": "text", "media_type": "text/plain", "data": "words"},
        },
        {"type": "text", "text": f"{marker} " + sim(text="seen")},
    ]
    client.messages.create(**asked({"role": "user", "content": blocks}))

    assert spoken(upstream(bridge, marker))[0]["content"] == blocks


@pytest.mark.parametrize(
    ("body", "error", "kind"),
    [
        ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
        ({"model": "claude-none"}, anthropic.NotFoundError, "not_found_error"),
        (
            {"messages": [user(sim(error={"status": 429, "message": "slow down"}))]},
            anthropic.RateLimitError,
            "rate_limit_error",
        ),
        pytest.param(
            {"messages": [user(sim(error={"status": 529, "message": "busy"}))]},
            anthropic.InternalServerError,
            "overloaded_error",
            marks=LONG,
        ),
    ],
)
def test_errors_are_the_clients_own(
    client: anthropic.Anthropic, body: dict[str, Any], error: type[Exception], kind: str
) -> None:
    with pytest.raises(error) as caught:
        client.messages.create(**asked(user("a")) | body)

    assert isinstance(caught.value, anthropic.APIStatusError)
    found: Any = caught.value.body
    assert found["error"]["type"] == kind
    assert caught.value.request_id == found["request_id"]


def test_an_answer_that_breaks_is_an_error(client: anthropic.Anthropic) -> None:
    broken = user(sim(tokens=50, error_after=20))
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(**asked(broken)) as stream,
    ):
        stream.until_done()

    found: Any = caught.value.body
    assert found["error"]["type"] in ("api_error", "overloaded_error")


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    short, long = (
        client.messages.count_tokens(model="opus", messages=[user(text)], tools=[WEATHER])
        for text in ("a", "a word " * 500)
    )

    assert 0 < short.input_tokens < long.input_tokens


def test_models(client: anthropic.Anthropic) -> None:
    names = [model.id for model in client.models.list(limit=2)]

    assert "opus" in names
    assert client.models.retrieve("opus").display_name


async def test_a_stream_that_is_left_frees_its_session(
    aclient: anthropic.AsyncAnthropic, bridge: RunningBridge
) -> None:
    async with aclient.messages.stream(**asked(user(sim(endless=True)))) as stream:
        async for _ in stream.text_stream:
            break
    await asyncio.to_thread(bridge.wait_until_settled)


def test_every_event_of_a_stream_has_its_name(bridge: RunningBridge) -> None:
    body = {**asked(user(sim(text="a"))), "stream": True}
    lines = httpx.post(f"{bridge.url}/v1/messages", json=body, timeout=PATIENCE).text.splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    types = [json.loads(line[6:])["type"] for line in lines if line.startswith("data: ")]

    assert names == types
    assert names[0] == "message_start"
    assert names[-1] == "message_stop"
