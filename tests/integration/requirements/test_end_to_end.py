"""What OpenAI's clients rely on, as bytes on the wire, through the real CLI."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from bridge.core.claude.turns import OPENING_PLACEHOLDER
from tests.integration.parity.scenarios import new_marker
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim

Json = dict[str, Any]

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
LISTEN = {"type": "function", "function": {"name": "listen"}}
CALLS = [
    {"name": "look", "input": {"at": "it"}, "fragment": 4},
    {"name": "listen", "input": {}},
    {"name": "look", "input": {"at": "that"}, "fragment": 4},
]


def post(
    bridge: RunningBridge,
    body: Json,
    path: str = "/v1/chat/completions",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    return httpx.post(bridge.url + path, json=body, headers=headers, timeout=PATIENCE)


def chat(text: str, **more: Any) -> Json:
    return {"model": "default", "messages": [{"role": "user", "content": text}], **more}


def frames(response: httpx.Response) -> list[Any]:
    """The events of a stream: JSON, but for the end mark. Comments are left out."""
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    parsed = []
    for block in blocks:
        if block.startswith(":"):
            continue
        assert block.startswith("data: ")
        assert "\n" not in block
        data = block.removeprefix("data: ")
        parsed.append(data if data == "[DONE]" else json.loads(data))
    return parsed


def deltas(events: list[Any]) -> list[Json]:
    return [event["choices"][0]["delta"] for event in events if event != "[DONE]"]


def conversation(bridge: RunningBridge, marker: str) -> list[tuple[str, list[Json]]]:
    """The conversation as it last reached the model, without the CLI's own messages."""
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    return [
        (message["role"], message["content"])
        for message in exchange.messages
        if message["role"] != "system"
    ]


# Streams


def test_a_stream_has_one_role_one_end_and_one_mark(bridge: RunningBridge) -> None:
    events = frames(post(bridge, chat(sim(text="Good day"), stream=True)))

    *chunks, mark = events
    assert mark == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert chunks[0]["id"].startswith("chatcmpl-")
    first, *texts, last = deltas(events)
    assert first == {"role": "assistant", "content": "", "refusal": None}
    assert all(set(delta) == {"content"} for delta in texts)
    assert "".join(delta["content"] for delta in texts) == "Good day"
    assert last == {}
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert not any("usage" in chunk for chunk in chunks)
    assert not any("obfuscation" in chunk for chunk in chunks)


def test_the_usage_comes_last_and_alone_if_it_is_asked_for(bridge: RunningBridge) -> None:
    options = {"include_usage": True, "include_obfuscation": True}
    response = post(bridge, chat(sim(text="hi"), stream=True, stream_options=options))

    *chunks, end, mark = frames(response)
    assert mark == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert end["choices"] == []
    usage = end["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert "x-bridge-ignored-params" not in response.headers


def test_calls_are_counted_from_0_and_named_once(bridge: RunningBridge) -> None:
    body = chat(sim(text="I look.", tools=CALLS), tools=[LOOK, LISTEN], stream=True)
    events = frames(post(bridge, body))

    pieces = [piece for delta in deltas(events) for piece in delta.get("tool_calls", ())]
    openings = [piece for piece in pieces if "id" in piece]
    assert [piece["index"] for piece in openings] == [0, 1, 2]
    assert [piece["function"] for piece in openings] == [
        {"name": name, "arguments": ""} for name in ("look", "listen", "look")
    ]
    assert {piece["type"] for piece in openings} == {"function"}
    assert len({piece["id"] for piece in openings}) == 3
    assert all(len(piece["id"]) <= 64 for piece in openings)
    others = [piece for piece in pieces if "id" not in piece]
    assert all(set(piece) == {"index", "function"} for piece in others)
    assert all(set(piece["function"]) == {"arguments"} for piece in others)
    arguments = [
        json.loads("".join(p["function"]["arguments"] for p in others if p["index"] == index))
        for index in range(3)
    ]
    assert arguments == [{"at": "it"}, {}, {"at": "that"}]
    assert sum(piece["index"] == 0 for piece in others) > 2
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_thinking_changes_no_other_chunk(bridge: RunningBridge) -> None:
    text = sim(thinking="Let me think.", text="Done.")
    hidden = deltas(frames(post(bridge, chat(text, stream=True))))
    shown = deltas(frames(post(bridge, chat(text, stream=True, include_reasoning=True))))

    thoughts = [delta["reasoning_content"] for delta in shown if "reasoning_content" in delta]
    assert "".join(thoughts) == "Let me think."
    assert [delta for delta in shown if "reasoning_content" not in delta] == hidden


def test_an_error_after_the_first_byte_is_the_last_event(bridge: RunningBridge) -> None:
    events = frames(post(bridge, chat(sim(tokens=9, error_after=3), stream=True)))

    *chunks, last = events
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4
    assert set(last) == {"error"}
    assert set(last["error"]) == {"message", "type", "param", "code"}


def test_an_error_before_the_first_byte_has_its_status(bridge: RunningBridge) -> None:
    for stream in (False, True):
        response = post(bridge, chat(sim(error={"status": 403}), stream=stream))
        assert response.status_code == 403
        assert response.headers["content-type"] == "application/json"
        assert set(response.json()) == {"error"}


def test_a_bad_request_is_refused_before_the_stream(bridge: RunningBridge) -> None:
    response = post(bridge, chat("x", stream=True, n=2))

    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.json()["error"]["param"] == "n"
    assert response.json()["error"]["code"] == "unsupported_value"


# Whole replies


def test_a_reply_has_all_its_keys(bridge: RunningBridge) -> None:
    body = post(bridge, chat(sim(text="hi"), metadata={"a": "b"})).json()

    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert isinstance(body["created"], int)
    assert body["service_tier"] == "default"
    # A string or absent, by the published schema.
    assert "system_fingerprint" not in body
    assert body["metadata"] == {"a": "b"}
    (choice,) = body["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "hi", "refusal": None, "annotations": []},
        "logprobs": None,
        "finish_reason": "stop",
    }


def test_calls_alone_leave_the_content_null(bridge: RunningBridge) -> None:
    (choice,) = post(bridge, chat(sim(tools=CALLS), tools=[LOOK, LISTEN])).json()["choices"]

    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    called = [call["function"] for call in choice["message"]["tool_calls"]]
    assert [(one["name"], json.loads(one["arguments"])) for one in called] == [
        ("look", {"at": "it"}),
        ("listen", {}),
        ("look", {"at": "that"}),
    ]


@pytest.mark.parametrize(
    ("directive", "more", "reason"),
    [
        ({"text": "x"}, {}, "stop"),
        ({"tokens": 9}, {"stop": "w2"}, "stop"),
        ({"tokens": 9}, {"max_tokens": 2}, "length"),
        ({"tokens": 2, "stop_reason": "model_context_window_exceeded"}, {}, "length"),
        ({"text": "no", "stop_reason": "refusal"}, {}, "content_filter"),
        ({"tools": CALLS[:1]}, {"tools": [LOOK]}, "tool_calls"),
        ({"tools": CALLS[:1]}, {"functions": [{"name": "look"}]}, "function_call"),
    ],
)
def test_finish_reasons(bridge: RunningBridge, directive: Json, more: Json, reason: str) -> None:
    body = post(bridge, chat(sim(**directive), **more)).json()

    assert body["choices"][0]["finish_reason"] == reason


def test_usage_counts_all_of_the_prompt(bridge: RunningBridge) -> None:
    counted = {
        "input_tokens": 11,
        "cache_read_input_tokens": 22,
        "cache_creation_input_tokens": 33,
        "output_tokens": 44,
    }
    usage = post(bridge, chat(sim(text="hi", usage=counted))).json()["usage"]

    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        66,
        44,
        110,
    )
    details = usage["prompt_tokens_details"]
    assert (details["cached_tokens"], details["cache_write_tokens"]) == (22, 33)


def test_functions_are_answered_in_the_deprecated_form(bridge: RunningBridge) -> None:
    body = chat(sim(tools=CALLS[:1]), functions=[{"name": "look"}])
    message = post(bridge, body).json()["choices"][0]["message"]
    assert message["content"] is None
    assert "tool_calls" not in message
    assert json.loads(message["function_call"]["arguments"]) == {"at": "it"}

    events = frames(post(bridge, {**body, "stream": True}))
    calls = [delta["function_call"] for delta in deltas(events) if "function_call" in delta]
    assert calls[0] == {"name": "look", "arguments": ""}
    assert json.loads("".join(call["arguments"] for call in calls)) == {"at": "it"}
    assert events[-2]["choices"][0]["finish_reason"] == "function_call"

    result = {"role": "function", "name": "look", "content": "a cat " + sim(text="Nice.")}
    answered = {**body, "messages": [*body["messages"], message, result]}
    assert post(bridge, answered).json()["choices"][0]["message"]["content"] == "Nice."


# Messages


def test_leading_instructions_become_the_system_prompt_and_later_ones_stay(
    bridge: RunningBridge,
) -> None:
    marker = new_marker()
    messages = [
        {"role": "developer", "content": f"First {marker}."},
        {"role": "system", "content": [{"type": "text", "text": "Second."}]},
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": "Third."},
        {"role": "user", "content": "Well?"},
    ]
    post(bridge, {"model": "default", "messages": messages})

    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert f"First {marker}.\nSecond." in exchange.system_text
    assert "Third." not in exchange.system_text
    ((role, blocks),) = conversation(bridge, marker)
    assert role == "user"
    assert [block["text"] for block in blocks] == [
        "Hi",
        "<operator-system-message>\nThird.\n</operator-system-message>",
        "Well?",
    ]


def test_a_history_made_elsewhere_works(bridge: RunningBridge) -> None:
    marker = new_marker()
    foreign = {"name": "look", "arguments": "{}"}
    calls = [{"id": id, "type": "function", "function": foreign} for id in ("call|ä:1", "x" * 90)]
    messages = [
        {"role": "assistant", "content": "Welcome"},
        {"role": "user", "content": marker},
        {"role": "user", "content": "Look."},
        {
            "role": "assistant",
            "tool_calls": calls,
            "annotations": [],
            "provider_specific_fields": None,
        },
        {"role": "tool", "tool_call_id": "x" * 90, "content": "second"},
        {"role": "tool", "tool_call_id": "call|ä:1", "content": None},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "And? " + sim(text="Fine.")},
    ]
    response = post(bridge, {"model": "default", "messages": messages, "tools": [LOOK]})

    assert response.json()["choices"][0]["message"]["content"] == "Fine."
    assert "x-bridge-ignored-params" not in response.headers
    seen = conversation(bridge, marker)
    assert [role for role, _ in seen] == ["user", "assistant"] * 2 + ["user"]
    assert seen[0][1][0]["text"] == OPENING_PLACEHOLDER
    assert [block["text"] for block in seen[2][1]] == [marker, "Look."]
    ids = [block["id"] for block in seen[3][1]]
    results = {block["tool_use_id"]: block for block in seen[4][1] if "tool_use_id" in block}
    assert set(results) == set(ids)
    assert results[ids[1]]["content"] == [{"type": "text", "text": "second"}]


def test_our_own_ids_come_back_unchanged(bridge: RunningBridge) -> None:
    marker = new_marker()
    body = chat(f"{marker} " + sim(tools=CALLS[:1]), tools=[LOOK])
    message = post(bridge, body).json()["choices"][0]["message"]
    (call,) = message["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "a cat"}
    post(bridge, {**body, "messages": [*body["messages"], message, result]})

    seen = conversation(bridge, marker)
    assert [block["id"] for block in seen[1][1]] == [call["id"]]
    assert [block["tool_use_id"] for block in seen[2][1]] == [call["id"]]


# Headers


def test_every_reply_is_named(bridge: RunningBridge) -> None:
    replies = [
        post(bridge, chat(sim(text="a"))),
        post(bridge, chat(sim(text="a"), stream=True)),
        post(bridge, chat("x", n=2)),
        post(bridge, chat(sim(error={"status": 403}))),
        httpx.get(f"{bridge.url}/v1/models", timeout=PATIENCE),
        httpx.get(f"{bridge.url}/nowhere", timeout=PATIENCE),
    ]
    ids = [reply.headers["x-request-id"] for reply in replies]
    assert len(set(ids)) == len(ids)
    assert all(reply.headers["openai-processing-ms"].isdigit() for reply in replies)
    assert {reply.headers["openai-version"] for reply in replies} == {"2020-10-01"}
    assert not any("access-control-allow-origin" in reply.headers for reply in replies)
    assert not any(name.startswith("x-ratelimit") for reply in replies for name in reply.headers)
    logged = bridge.log_path.read_text()
    assert all(id in logged for id in ids[:2])


def test_a_clients_own_headers_are_taken(bridge: RunningBridge) -> None:
    headers = {
        "x-stainless-lang": "python",
        "x-stainless-retry-count": "1",
        "openai-organization": "org-1",
        "openai-project": "proj-1",
        "authorization": "Bearer anything",
    }
    assert post(bridge, chat(sim(text="a")), headers=headers).status_code == 200


def test_what_has_no_effect_is_named(bridge: RunningBridge) -> None:
    body = chat(sim(text="a"), seed=1, top_k=3, model="gpt-4o", user="u")
    for stream in (False, True):
        response = post(bridge, {**body, "stream": stream})
        assert response.headers["x-bridge-ignored-params"] == "seed,top_k,model"
    strict = post(bridge, body, headers={"x-bridge-strict": "true"})
    assert strict.status_code == 400
    assert strict.json()["error"]["param"] == "seed"


def test_a_temperature_above_claudes_scale_is_capped_and_named(bridge: RunningBridge) -> None:
    marker = new_marker()
    response = post(bridge, chat(marker + sim(text="a"), temperature=1.8))

    assert response.headers["x-bridge-ignored-params"] == "temperature"
    (exchange,) = bridge.simulator.ledger.exchanges(containing=marker)
    assert exchange.body.get("temperature", 1) == 1


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "headers"),
    [
        pytest.param(
            *(401, 503, "server_error", "claude_not_logged_in", {"x-should-retry": "false"}),
            marks=LONG,
        ),
        (403, 403, "permission_error", "permission_denied", {}),
        (404, 404, "invalid_request_error", "model_not_found", {}),
        (413, 413, "invalid_request_error", "request_too_large", {}),
        (500, 503, "server_error", "upstream_error", {"retry-after": "10"}),
    ],
)
def test_upstream_errors(
    bridge: RunningBridge,
    error: int,
    status: int,
    kind: str,
    code: str,
    headers: dict[str, str],
) -> None:
    response = post(bridge, chat(sim(error={"status": error})))

    assert response.status_code == status
    body = response.json()["error"]
    assert (body["type"], body["code"]) == (kind, code)
    assert {name: response.headers.get(name) for name in headers} == headers


# Models, text completions


def test_models_are_listed_and_found(bridge: RunningBridge) -> None:
    listed = httpx.get(f"{bridge.url}/v1/models", timeout=PATIENCE).json()
    assert listed["object"] == "list"
    assert {"default", "opus", "sonnet", "haiku"} <= {model["id"] for model in listed["data"]}
    for model in listed["data"]:
        assert set(model) == {"id", "object", "created", "owned_by"}
        assert (model["object"], model["owned_by"]) == ("model", "anthropic")
        assert isinstance(model["created"], int)
        found = httpx.get(f"{bridge.url}/v1/models/{model['id']}", timeout=PATIENCE)
        assert found.json()["id"] == model["id"]
    unknown = httpx.get(f"{bridge.url}/v1/models/some/thing", timeout=PATIENCE)
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"


def test_an_alias_is_listed_and_a_pattern_is_not(
    start_bridge: Callable[..., RunningBridge],
) -> None:
    running = start_bridge(
        pool_size=1, bridge_model_aliases=(("fast", "haiku"), ("gpt-4*", "opus"))
    )
    listed = httpx.get(f"{running.url}/v1/models", timeout=PATIENCE).json()["data"]
    ids = [model["id"] for model in listed]
    assert "fast" in ids
    assert "gpt-4*" not in ids


def test_a_text_completion(bridge: RunningBridge) -> None:
    body = {"model": "default", "prompt": [sim(text="hello")], "max_tokens": 50}
    reply = post(bridge, body, "/v1/completions").json()
    assert reply["id"].startswith("cmpl-")
    assert reply["object"] == "text_completion"
    assert reply["choices"] == [
        {"text": "hello", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert reply["usage"]["total_tokens"] > 0

    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, end, mark = frames(post(bridge, {**body, **options}, "/v1/completions"))
    assert mark == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "hello"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert end["choices"] == []
    assert end["usage"]["total_tokens"] > 0
