"""The bytes of an answer: the events the API documents, in its order."""

import itertools
import json
from typing import Any

from bridge.simulator.api import stream
from bridge.simulator.api.stream import Envelope, Reply, ToolUse

ENVELOPE = Envelope(id="msg_1", model="claude-opus-5-5", usage={"input_tokens": 7})
DIRECT = {"caller": {"type": "direct"}}
FULL = Reply(
    pieces=("Let ", "me "),
    thinking="hm " * 10,
    tools=(ToolUse("toolu_1", "add", '{"a": 1}', 4), ToolUse("toolu_2", "sub", "{}")),
    stop_reason="tool_use",
)


def events(reply: Reply, envelope: Envelope = ENVELOPE) -> list[dict[str, Any]]:
    found = []
    for _, data in stream.frames(reply, envelope):
        name, payload = data.decode().removesuffix("\n\n").split("\n")
        event = json.loads(payload.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_events_come_in_the_documented_order() -> None:
    names = [event["type"] for event in events(FULL) if event["type"] != "ping"]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert [name for name, _ in itertools.groupby(names)] == [
        "message_start",
        *block * 4,
        "message_delta",
        "message_stop",
    ]


def test_deltas_add_up_to_the_blocks() -> None:
    found = events(FULL)
    starts = [e["content_block"] for e in found if e["type"] == "content_block_start"]
    assert [start["type"] for start in starts] == ["thinking", "text", "tool_use", "tool_use"]
    assert starts[2] == {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}, **DIRECT}
    deltas = [(e["index"], e["delta"]) for e in found if e["type"] == "content_block_delta"]
    joined: dict[tuple[int, str], str] = {}
    for index, delta in deltas:
        kind = delta.pop("type")
        joined[index, kind] = joined.get((index, kind), "") + delta.popitem()[1]
    assert joined == {
        (0, "thinking_delta"): "hm " * 10,
        (0, "signature_delta"): stream.SIGNATURE,
        (1, "text_delta"): "Let me ",
        (2, "input_json_delta"): '{"a": 1}',
        (3, "input_json_delta"): "{}",
    }


def test_only_content_is_marked_as_a_delta() -> None:
    marked = [b"content_block_delta" in data for is_delta, data in stream.frames(FULL, ENVELOPE)]
    assert marked == [is_delta for is_delta, _ in stream.frames(FULL, ENVELOPE)]


def test_usage_begins_with_one_output_token_and_ends_with_all() -> None:
    found = events(FULL)
    assert found[0]["message"]["usage"] == {"input_tokens": 7, "output_tokens": 1}
    assert found[0]["message"]["stop_reason"] is None
    delta = found[-2]
    assert delta["usage"] == {
        "input_tokens": 7,
        "output_tokens": FULL.output_tokens,
        "output_tokens_details": {"thinking_tokens": 8},
    }
    assert delta["delta"] == {
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
    }


def test_usage_can_be_overridden() -> None:
    envelope = Envelope("m", "x", {"input_tokens": 7}, usage_override={"input_tokens": 70})
    found = events(Reply(("a",)), envelope)
    assert found[0]["message"]["usage"]["input_tokens"] == 70
    assert found[-2]["usage"] == {"input_tokens": 70, "output_tokens": 1}


def test_context_management_is_answered_when_asked_for() -> None:
    assert "context_management" not in events(FULL)[-2]
    envelope = Envelope("m", "x", {}, context_management=True)
    assert events(FULL, envelope)[-2]["context_management"] == {"applied_edits": []}


def test_omitted_thinking_is_signed_and_empty() -> None:
    found = events(FULL, Envelope("m", "x", {}, omit_thinking=True))
    kinds = [e["delta"]["type"] for e in found if e["type"] == "content_block_delta"]
    assert "thinking_delta" not in kinds
    assert kinds[0] == "signature_delta"


def test_an_endless_answer_does_not_end() -> None:
    frames = stream.frames(Reply(endless=True), ENVELOPE)
    deltas = (data for is_delta, data in frames if is_delta)
    words = [
        json.loads(d.split(b"data: ")[1])["delta"]["text"] for d in itertools.islice(deltas, 99)
    ]
    assert words == [f"w{n} " for n in range(99)]


def test_the_whole_message_equals_the_stream() -> None:
    assert stream.message(FULL, ENVELOPE) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5-5",
        "content": [
            {"type": "thinking", "thinking": "hm " * 10, "signature": stream.SIGNATURE},
            {"type": "text", "text": "Let me "},
            {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}, **DIRECT},
            {"type": "tool_use", "id": "toolu_2", "name": "sub", "input": {}, **DIRECT},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 7,
            "output_tokens": FULL.output_tokens,
            "output_tokens_details": {"thinking_tokens": 8},
        },
    }
