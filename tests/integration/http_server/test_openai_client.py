"""OpenAI's own client, sync and async, against a real server."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from bridge.core.contract import errors
from bridge.core.contract.events import TextDelta
from tests.support.fakes import CALLS, HELLO, STARTED, FakeService, Gate, Step
from tests.support.harness import PATIENCE
from tests.support.http.serving import serving

ASK: dict[str, Any] = {"model": "opus", "messages": [{"role": "user", "content": "hi"}]}
TOOLS: dict[str, Any] = {
    "tools": [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("weather", "time")
    ]
}


@contextmanager
def connected(*script: Step) -> Generator[tuple[OpenAI, FakeService], None, None]:
    service = FakeService(*script)
    with (
        serving(service) as url,
        OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=PATIENCE) as client,
    ):
        yield client, service


def assemble(chunks: list[ChatCompletionChunk]) -> tuple[str, list[dict[str, str]]]:
    """What clients make of the chunks: they concatenate."""
    text = ""
    calls: list[dict[str, str]] = []
    for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                while len(calls) <= call.index:
                    calls.append({"id": "", "name": "", "arguments": ""})
                made = calls[call.index]
                assert call.function is not None
                made["id"] += call.id or ""
                made["name"] += call.function.name or ""
                made["arguments"] += call.function.arguments or ""
    return text, calls


MADE = [
    {"id": "toolu_1", "name": "weather", "arguments": '{"city": "Oslo"}'},
    {"id": "toolu_2", "name": "time", "arguments": "{}"},
]


def check_hello(reply: ChatCompletion) -> None:
    assert reply.choices[0].message.content == "Hello"
    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == "claude-opus-5"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (123, 7)
    assert reply.usage.prompt_tokens_details is not None
    assert reply.usage.prompt_tokens_details.cached_tokens == 20
    assert reply._request_id is not None
    assert reply._request_id.startswith("req_")


def test_a_reply() -> None:
    with connected() as (client, service):
        check_hello(client.chat.completions.create(**ASK))

        assert service.requests[0].model == "opus"


async def test_a_reply_async() -> None:
    with serving(FakeService()) as url:
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
            check_hello(await client.chat.completions.create(**ASK))


def test_a_stream_with_usage() -> None:
    with connected() as (client, _):
        options: Any = {"include_usage": True}
        chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options=options))

    assert assemble(chunks)[0] == "Hello"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 130
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


async def test_a_stream_async() -> None:
    with serving(FakeService()) as url:
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
            stream = await client.chat.completions.create(**ASK, stream=True)
            chunks = [chunk async for chunk in stream]

    assert assemble(chunks)[0] == "Hello"
    assert all(chunk.choices for chunk in chunks)


def test_tool_calls() -> None:
    with connected(*CALLS) as (client, service):
        reply = client.chat.completions.create(**ASK, **TOOLS)

        assert [tool.name for tool in service.requests[0].tools] == ["weather", "time"]
    calls = reply.choices[0].message.tool_calls or []
    assert [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
        for call in calls
        if call.type == "function"
    ] == MADE


def test_tool_calls_in_a_stream() -> None:
    with connected(*CALLS) as (client, _):
        chunks = list(client.chat.completions.create(**ASK, **TOOLS, stream=True))

    assert assemble(chunks) == ("", MADE)


async def test_tool_calls_in_a_stream_async() -> None:
    with serving(FakeService(*CALLS)) as url:
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
            stream = await client.chat.completions.create(**ASK, **TOOLS, stream=True)
            chunks = [chunk async for chunk in stream]

    assert assemble(chunks) == ("", MADE)


def test_the_clients_stream_helper() -> None:
    with connected(*CALLS) as (client, _), client.chat.completions.stream(**ASK) as stream:
        final = stream.get_final_completion()

    assert final.choices[0].message.tool_calls is not None
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_reply_can_be_sent_back() -> None:
    with connected(*CALLS) as (client, service):
        first = client.chat.completions.create(**ASK, **TOOLS)
        results: list[Any] = [
            {"role": "tool", "tool_call_id": id, "content": "fine"} for id in ("toolu_1", "toolu_2")
        ]
        messages = [*ASK["messages"], first.choices[0].message, *results]
        client.chat.completions.create(
            model="opus", messages=messages, extra_headers={"x-bridge-strict": "true"}
        )

        assert len(service.requests[1].messages) == 3


def test_thinking() -> None:
    with connected(*CALLS) as (client, _):
        reply = client.chat.completions.create(**ASK, extra_body={"include_reasoning": True})

    assert reply.choices[0].message.model_dump()["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("raised", "expected", "status"),
    [
        (errors.UnsupportedError("x", field="n"), openai.BadRequestError, 400),
        (errors.AuthenticationError("x"), openai.AuthenticationError, 401),
        (errors.PermissionDeniedError("x"), openai.PermissionDeniedError, 403),
        (errors.ModelNotFoundError("x"), openai.NotFoundError, 404),
        (errors.PlanLimitError("x", retry_after=9), openai.RateLimitError, 429),
        (errors.NotLoggedInError("x"), openai.InternalServerError, 503),
        (errors.UnavailableError("x"), openai.InternalServerError, 503),
        (errors.DeadlineError("x"), openai.InternalServerError, 504),
        (RuntimeError("x"), openai.InternalServerError, 500),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_is_raised_as_the_clients_own(
    raised: Exception, expected: type[openai.APIStatusError], status: int, stream: bool
) -> None:
    with connected(raised) as (client, _), pytest.raises(expected) as caught:
        client.chat.completions.create(**ASK, stream=stream)

    assert caught.value.status_code == status
    assert caught.value.request_id is not None
    assert caught.value.code is not None


def test_what_must_not_be_retried_is_asked_once() -> None:
    service = FakeService(errors.PlanLimitError("used up", retry_after=3600))
    with (
        serving(service) as url,
        OpenAI(base_url=url, api_key="unused", max_retries=2) as client,
        pytest.raises(openai.RateLimitError),
    ):
        client.chat.completions.create(**ASK)

    assert len(service.requests) == 1


def test_what_may_be_retried_is_asked_again() -> None:
    service = FakeService(errors.UnavailableError("gone", retry_after=0.01))
    with (
        serving(service) as url,
        OpenAI(base_url=url, api_key="unused", max_retries=2) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.chat.completions.create(**ASK)

    assert len(service.requests) == 3


def test_an_error_in_the_middle_of_a_stream_is_raised() -> None:
    script = (STARTED, TextDelta("a"), errors.UnavailableError("ended prematurely"))
    with connected(*script) as (client, _):
        stream = client.chat.completions.create(**ASK, stream=True)
        seen = [next(stream).choices[0].delta.content for _ in range(2)]
        with pytest.raises(openai.APIError, match="ended prematurely") as caught:
            next(stream)

    assert seen == ["", "a"]
    assert caught.value.code == "upstream_error"


async def test_an_error_in_the_middle_of_a_stream_is_raised_async() -> None:
    service = FakeService(STARTED, TextDelta("a"), errors.UnavailableError("ended prematurely"))
    with serving(service) as url:
        async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
            stream = await client.chat.completions.create(**ASK, stream=True)
            with pytest.raises(openai.APIError, match="ended prematurely"):
                [chunk async for chunk in stream]


@pytest.mark.parametrize(
    ("name", "value"), [("messages", []), ("temperature", 3), ("n", 2), ("stop", ["x"] * 5)]
)
def test_a_bad_request_names_its_field(name: str, value: object) -> None:
    with connected() as (client, _), pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**ASK, name: value})

    assert caught.value.param == name
    assert caught.value.type == "invalid_request_error"


def test_an_endpoint_that_is_not_there_is_not_found() -> None:
    with connected() as (client, _), pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="text-embedding-3-small", input="hi")

    assert caught.value.code == "model_not_found"


def test_models() -> None:
    with connected() as (client, _):
        assert [model.id for model in client.models.list()] == ["opus", "anthropic/claude-opus-5"]
        assert client.models.retrieve("opus").owned_by == "anthropic"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-9")


def test_text_completions() -> None:
    with connected() as (client, _):
        whole = client.completions.create(model="opus", prompt="hi")
        streamed = client.completions.create(model="opus", prompt=["hi"], stream=True)
        text = "".join(chunk.choices[0].text for chunk in streamed)

    assert whole.choices[0].text == text == "Hello"


def test_closing_a_stream_early_ends_the_work() -> None:
    # Never opened, and made outside of the loop it is waited on: only the client's leaving helps.
    with connected(STARTED, TextDelta("a"), Gate(), *HELLO[1:]) as (client, service):
        stream = client.chat.completions.create(**ASK, stream=True)
        next(iter(stream))
        assert not service.closed.is_set()

        stream.close()

        assert service.closed.wait(PATIENCE)


def test_giving_up_on_a_reply_ends_the_work() -> None:
    with connected(Gate()) as (client, service):
        # On a busy machine it may be given up before it has come in.
        for seconds in (0.2, 2, 20):
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(**ASK, timeout=seconds)
            if service.requests:
                break

        assert service.closed.wait(PATIENCE)
