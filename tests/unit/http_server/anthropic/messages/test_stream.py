"""An answer as events and as a whole: both are what the official client reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from bridge.core.contract.errors import QueueFullError, UnavailableError
from bridge.core.contract.events import (
    Citation,
    EncryptedThinking,
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    TextStart,
    ThinkingDelta,
    ThinkingSignature,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.usage import Usage
from bridge.http_server.anthropic.messages.reply import MessageCollector
from bridge.http_server.anthropic.messages.stream import PING, MessageStreamEncoder

ANY_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
STRICT = {"strict": True}
USAGE = Usage(3, 20, 100, 7, 2, 60)
START = Started("claude-opus-5", usage=Usage(3, 20, 100, 1, 0, 60))
STOP = Finished(FinishReason.STOP, USAGE, stop_reason="end_turn")
EVERYTHING: tuple[Event, ...] = (
    START,
    ThinkingDelta("Let "),
    ThinkingDelta("me"),
    ThinkingSignature("c2ln"),
    ThinkingSignature("c2lnMg"),
    EncryptedThinking("ZW5j"),
    TextDelta('I "look" '),
    TextDelta("at\n it."),
    ToolCallStart(0, "toolu_1", "look"),
    ToolCallDelta(0, '{"at"'),
    ToolCallDelta(0, ': "it"}'),
    ToolCallStart(1, "toolu_2", "listen"),
    ToolCallDelta(1, "{}"),
    Finished(FinishReason.TOOL_CALLS, USAGE, stop_reason="tool_use"),
)


def written(events: Sequence[Event], **options: Any) -> list[dict[str, Any]]:
    """The events of a stream, each checked against the client's own types."""
    encoder = MessageStreamEncoder(id="msg_1", **options)
    return parsed(b"".join(map(encoder.feed, events)))


def parsed(stream: bytes) -> list[dict[str, Any]]:
    found = []
    blocks = stream.decode().split("\n\n")
    assert blocks.pop() == ""
    for block in blocks:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] not in ("ping", "error"):
            ANY_EVENT.validate_json(json.dumps(event))
        found.append(event)
    return found


def gathered(events: Sequence[Event], **options: Any) -> dict[str, Any]:
    collector = MessageCollector(id="msg_1", **options)
    for event in events:
        assert collector.feed(event) == b""
    reply = collector.reply()
    Message.model_validate_json(json.dumps(reply))
    return reply


def accumulated(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks of a stream, put together as clients do."""
    blocks: list[dict[str, Any]] = []
    arguments: dict[int, str] = {}
    opened = -1
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert opened == -1
                opened = event["index"]
                assert opened == len(blocks)
                blocks.append(event["content_block"])
            case "content_block_delta":
                assert event["index"] == opened
                delta = event["delta"]
                if delta["type"] == "input_json_delta":
                    arguments[opened] = arguments.get(opened, "") + delta["partial_json"]
                    blocks[opened]["input"] = {}
                else:
                    field = delta["type"].removesuffix("_delta")
                    blocks[opened][field] += delta[field]
            case "content_block_stop":
                assert event["index"] == opened
                opened = -1
    assert opened == -1
    for index, text in arguments.items():
        blocks[index]["input"] = json.loads(text)
    return blocks


@pytest.mark.parametrize("omit", [False, True])
def test_any_answer_is_the_same_as_events_and_as_a_whole(omit: bool) -> None:
    events = written(EVERYTHING, omit_thinking=omit)
    whole = gathered(EVERYTHING, omit_thinking=omit)

    assert accumulated(events) == whole["content"]
    assert whole["content"] == [
        {"type": "thinking", "thinking": "" if omit else "Let me", "signature": "c2ln"},
        {"type": "thinking", "thinking": "", "signature": "c2lnMg"},
        {"type": "redacted_thinking", "data": "ZW5j"},
        {"type": "text", "text": 'I "look" at\n it.'},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "it"}},
        {"type": "tool_use", "id": "toolu_2", "name": "listen", "input": {}},
    ]
    assert whole["stop_reason"] == "tool_use"
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "ping"]
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert {"id": "msg_1", "model": "claude-opus-5"}.items() <= events[0]["message"].items()


def test_citations_are_part_of_their_block() -> None:
    location = {
        "type": "char_location",
        "cited_text": "b",
        "document_index": 0,
        "document_title": None,
        "start_char_index": 0,
        "end_char_index": 1,
        "file_id": None,
    }
    answer: tuple[Event, ...] = (
        START,
        TextStart(cited=False),
        TextDelta("a "),
        TextStart(cited=True),
        TextDelta("b"),
        Citation(location),
        Citation(location),
        TextStart(cited=True),
        TextDelta("c"),
        STOP,
    )
    events = written(answer)
    blocks: list[Any] = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            if delta["type"] == "citations_delta":
                blocks[-1]["citations"].append(delta["citation"])
            else:
                blocks[-1]["text"] += delta["text"]

    assert blocks == [
        {"type": "text", "text": "a "},
        {"type": "text", "text": "b", "citations": [location, location]},
        {"type": "text", "text": "c", "citations": []},
    ]
    assert gathered(answer)["content"] == blocks
    assert [event["index"] for event in events if event["type"] == "content_block_stop"] == [
        *(0, 1, 2)
    ]


def test_the_tokens_of_the_prompt_come_first_and_all_of_them_last() -> None:
    start, *_, delta, _ = written((START, TextDelta("a"), STOP))

    assert start["message"]["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
        "output_tokens": 1,
        "output_tokens_details": {"thinking_tokens": 0},
        "service_tier": "standard",
    }
    assert delta["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 20,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    assert gathered((START, STOP))["usage"]["output_tokens"] == 7


DETAILS = {"type": "refusal", "category": "cyber", "explanation": "No."}


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (STOP, {"stop_reason": "end_turn", "stop_sequence": None}),
        (
            Finished(FinishReason.STOP, USAGE, "END", "stop_sequence"),
            {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        ),
        (
            Finished(FinishReason.STOP, USAGE, "END"),
            {"stop_reason": "stop_sequence", "stop_sequence": "END"},
        ),
        (Finished(FinishReason.STOP, USAGE), {"stop_reason": "end_turn", "stop_sequence": None}),
        (
            Finished(FinishReason.LENGTH, USAGE, stop_reason="model_context_window_exceeded"),
            {"stop_reason": "model_context_window_exceeded", "stop_sequence": None},
        ),
        (
            Finished(FinishReason.LENGTH, USAGE, stop_reason="pause_turn"),
            {"stop_reason": "pause_turn", "stop_sequence": None},
        ),
        (
            Finished(FinishReason.REFUSAL, USAGE, None, "refusal", DETAILS),
            {"stop_reason": "refusal", "stop_sequence": None, "stop_details": DETAILS},
        ),
    ],
)
def test_stop_reasons_are_the_models_own(end: Finished, said: dict[str, Any]) -> None:
    *_, delta, _ = written((START, TextDelta("a"), end))
    whole = gathered((START, TextDelta("a"), end))

    assert delta["delta"] == said
    assert said.items() <= whole.items()


def test_a_stream_that_breaks_ends_in_its_error_and_no_end_of_the_message() -> None:
    encoder = MessageStreamEncoder(id="msg_1")
    encoder.feed(START)
    encoder.feed(TextDelta("a"))

    close, error = parsed(encoder.fail(QueueFullError("full"), "req_1"))

    assert close["type"] == "content_block_stop"
    assert error == {
        "type": "error",
        "error": {
            "type": "rate_limit_error",
            "message": "full",
            "details": {"error_code": "queue_full"},
        },
        "request_id": "req_1",
    }


def test_silence_is_filled_with_pings() -> None:
    assert MessageStreamEncoder(id="a").keep_alive == PING
    assert parsed(PING) == [{"type": "ping"}]


@pytest.mark.parametrize("arguments", ['{"at": "i', "", "[1]", '{"a": 1e999}'])
def test_the_arguments_of_a_call_that_was_cut_are_empty(arguments: str) -> None:
    events = (
        START,
        ToolCallStart(0, "toolu_1", "look"),
        ToolCallDelta(0, arguments),
        Finished(FinishReason.LENGTH, USAGE),
    )
    (block,) = gathered(events)["content"]

    assert block["input"] == {}


def test_an_answer_without_an_end_is_none() -> None:
    collector = MessageCollector(id="msg_1")
    collector.feed(START)

    with pytest.raises(UnavailableError):
        collector.reply()
