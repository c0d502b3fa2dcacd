"""Streams and messages have the structure seen in public recordings of the Messages API.

The structures are written down here as this project's own data. The pages are
https://platform.claude.com/docs/en/build-with-claude/streaming and, for the errors,
https://platform.claude.com/docs/en/api/errors
"""

import json
import re
from typing import Any

import httpx
import pytest

from bridge.simulator import Simulator
from bridge.simulator.api.failures import FAILURES
from tests.support.simulator_client import events, failed, names, post, request, run

START_FIELDS = [
    "model",
    "id",
    "type",
    "role",
    "content",
    "stop_reason",
    "stop_sequence",
    "stop_details",
    "usage",
]
START_USAGE = {
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_creation",
    "output_tokens",
    "service_tier",
    "inference_geo",
}
DELTA_USAGE = {
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
}


def block(kind: str, *deltas: str) -> list[str]:
    deltas = tuple(f"content_block_delta {delta}" for delta in deltas)
    return [f"content_block_start {kind}", *deltas, "content_block_stop"]


def streamed(body: dict[str, Any]) -> str:
    received: list[str] = []

    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        received.append((await post(client, body)).text)

    run(scenario)
    return received[0]


def whole(body: dict[str, Any]) -> dict[str, Any]:
    received: list[dict[str, Any]] = []

    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        received.append((await post(client, body | {"stream": False})).json())

    run(scenario)
    return received[0]


def test_a_stream_begins_and_ends_with_what_the_api_documents() -> None:
    found = events(streamed(request(text="Hi")))
    message = found[0]["message"]
    assert list(message) == START_FIELDS
    assert set(message["usage"]) == START_USAGE
    assert message["content"] == []
    assert re.fullmatch(r"msg_01\w{22}", message["id"])
    delta, stop = found[-2:]
    assert list(delta) == ["type", "delta", "usage"]
    assert delta["delta"] == {
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
    }
    assert set(delta["usage"]) == DELTA_USAGE
    assert stop == {"type": "message_stop"}


def test_data_is_compact_and_a_ping_comes_after_the_first_block_began() -> None:
    text = streamed(request(text="Hi"))
    lines = text.splitlines()
    assert lines[1].startswith('data: {"type":"message_start","message":{"model":')
    kinds = [line[7:] for line in lines if line.startswith("event: ")]
    assert kinds[:4] == ["message_start", "content_block_start", "ping", "content_block_delta"]
    assert 'data: {"type": "ping"}' in lines


def test_thinking_is_signed_last_and_counted_in_the_delta() -> None:
    body = request(text="Hi", thinking="hm") | {"thinking": {"type": "adaptive"}}
    text = streamed(body)
    assert names(text)[1:4] == block("thinking", "thinking_delta", "signature_delta")[:3]
    found = events(text)
    assert found[1]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert found[-2]["usage"]["output_tokens_details"] == {"thinking_tokens": 1}
    omitted = body | {"thinking": {"type": "adaptive", "display": "omitted"}}
    assert names(streamed(omitted))[1:4] == block("thinking", "signature_delta")


@pytest.mark.parametrize(
    ("call", "deltas"),
    [
        ({"name": "add"}, [""]),
        ({"name": "add", "no_delta": True}, []),
        ({"name": "add", "raw": "{}"}, ["", "{}"]),
        ({"name": "add", "input": {"a": 1}, "fragment": 4}, ["", '{"a"', ": 1}"]),
        ({"name": "add", "raw": '{"a": oops', "fragment": 99}, ["", '{"a": oops']),
    ],
)
def test_arguments_of_calls(call: dict[str, Any], deltas: list[str]) -> None:
    found = events(streamed(request(tools=[call])))
    assert found[1]["content_block"].keys() == {"type", "id", "name", "input", "caller"}
    assert found[1]["content_block"]["input"] == {}
    assert found[1]["content_block"]["caller"] == {"type": "direct"}
    pieces = [e["delta"] for e in found if e["type"] == "content_block_delta"]
    assert all(piece["type"] == "input_json_delta" for piece in pieces)
    assert [piece["partial_json"] for piece in pieces] == deltas
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_whole_message() -> None:
    message = whole(request(text="Hi", tools=[{"name": "add", "input": {"a": 1}}, {"name": "add"}]))
    assert list(message) == START_FIELDS
    assert set(message["usage"]) == START_USAGE | {"output_tokens_details"}
    text, call, empty = message["content"]
    assert text == {"type": "text", "text": "Hi"}
    assert (call["input"], empty["input"]) == ({"a": 1}, {})
    assert call["caller"] == {"type": "direct"}
    assert re.fullmatch(r"toolu_01\w{22}", call["id"])


def test_a_refusal_has_no_block_and_a_reason() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "No."}
    text = streamed(request(text="", stop_reason="refusal", stop_details=details))
    assert names(text) == ["message_start", "message_delta", "message_stop"]
    assert text.count("event: ping") == 1
    assert events(text)[1]["delta"] == {
        "stop_reason": "refusal",
        "stop_sequence": None,
        "stop_details": details,
    }


def test_blocks_of_server_tools_and_redacted_thinking() -> None:
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search"}
    given = [
        {"type": "redacted_thinking", "data": "eA=="},
        {**use, "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    ]
    body = request(blocks=given, stop_reason="pause_turn")
    text = streamed(body)
    assert names(text)[1:-2] == [
        *block("redacted_thinking"),
        *block("server_tool_use", "input_json_delta", "input_json_delta"),
        *block("web_search_tool_result"),
    ]
    found = events(text)
    assert found[1]["content_block"] == given[0]
    assert found[3]["content_block"] == {**use, "input": {}}
    assert found[-2]["delta"]["stop_reason"] == "pause_turn"
    assert whole(body)["content"] == given


@pytest.mark.parametrize(
    ("directive", "blocks"),
    [
        ({"text": ""}, []),
        ({"text": "\n\n"}, block("text", "text_delta")),
        ({"text": "", "thinking": "hm"}, block("thinking", "thinking_delta", "signature_delta")),
        ({"blocks": [{"type": "text", "text": ""}]}, block("text", "text_delta")),
    ],
)
def test_answers_without_visible_text(directive: dict[str, Any], blocks: list[str]) -> None:
    body = request(**directive) | {"thinking": {"type": "adaptive"}}
    assert names(streamed(body))[1:-2] == blocks


def test_text_of_whitespace_comes_before_a_call() -> None:
    text = streamed(request(text="\n\n", tools=[{"name": "add"}]))
    assert names(text)[1:-2] == [
        *block("text", "text_delta"),
        *block("tool_use", "input_json_delta"),
    ]


def test_a_call_cut_by_max_tokens() -> None:
    call = {"name": "add", "raw": '{"a": "b', "fragment": 99}
    found = events(streamed(request(tools=[call], stop_reason="max_tokens")))
    assert found[-2]["delta"]["stop_reason"] == "max_tokens"
    assert [e["type"] for e in found[-3:]] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    by_limit = request(tools=[{"name": "add", "input": {"a": "x" * 99}}]) | {"max_tokens": 3}
    assert events(streamed(by_limit))[-2]["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.parametrize("kind", FAILURES)
def test_errors_have_the_api_s_body_and_headers(kind: str) -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        known = FAILURES[kind]
        response = await post(client, request(error=kind))
        assert failed(response) == (known.status, known.type, known.message)
        assert known.headers.items() <= dict(response.headers).items()
        retry = "true" if known.status in (429, 500, 529) else "false"
        assert response.headers["x-should-retry"] == retry
        own = request(error={"kind": kind, "headers": {"retry-after": "300"}, "message": "mine"})
        response = await post(client, own)
        assert failed(response) == (known.status, known.type, "mine")
        assert response.headers["retry-after"] == "300"

    run(scenario)


def test_a_key_s_answers_have_its_limits_and_a_token_s_have_not() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        response = await post(client, request(text="Hi"))
        assert re.fullmatch(r"req_01\w{22}", response.headers["request-id"])
        assert "anthropic-organization-id" in response.headers
        for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
            for what in ("limit", "remaining", "reset"):
                assert f"anthropic-ratelimit-{kind}-{what}" in response.headers
        del client.headers["x-api-key"]
        bearer = {"authorization": "Bearer token"}
        response = await post(client, request(text="Hi"), headers=bearer)
        assert not [name for name in response.headers if "ratelimit" in name]

    run(scenario)


def test_an_error_in_a_stream_has_details_and_a_status_error_has_none() -> None:
    text = streamed(request(error_after="headers"))
    [event] = events(text)
    assert event["error"] == {"details": None, "type": "overloaded_error", "message": "Overloaded"}
    assert event["request_id"].startswith("req_01")
    assert json.loads(text.split("data: ")[1])["type"] == "error"
