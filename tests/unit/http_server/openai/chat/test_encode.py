"""Encoders: what each event becomes, fed to them one by one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from bridge.core.contract.errors import BridgeError, QueueFullError, UnavailableError
from bridge.core.contract.events import (
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.http_server.event_encoder import EventEncoder
from bridge.http_server.openai.chat.reply import ChatReplyCollector
from bridge.http_server.openai.chat.stream import ChatStreamEncoder
from bridge.http_server.openai.completions.encode import TextReplyCollector, TextStreamEncoder
from bridge.http_server.openai.shared.replies import FINISH_REASONS, usage_object
from tests.support.fakes import CALLS, HELLO, STARTED, STOP, USAGE
from tests.support.http.asgi import frames

USAGE_OBJECT = {
    "prompt_tokens": 123,
    "completion_tokens": 7,
    "total_tokens": 130,
    "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 100, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 2,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
EMPTY = (STARTED, STOP)
AWKWARD = 'quote " backslash \\ line\nend \r\u2028 ü 🙂 \ud83d data: x\n\n'


def test_usage_counts_all_of_the_prompt() -> None:
    assert usage_object(USAGE) == USAGE_OBJECT


def test_every_reason_has_a_word() -> None:
    assert dict(FINISH_REASONS) == {
        FinishReason.STOP: "stop",
        FinishReason.LENGTH: "length",
        FinishReason.TOOL_CALLS: "tool_calls",
        FinishReason.REFUSAL: "content_filter",
    }


# The base


class Recorder(EventEncoder):
    """Writes down which hooks are called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def on_start(self, event: Started) -> None:
        self.calls.append("start")

    def on_text_start(self, *, cited: bool = False) -> None:
        self.calls.append("<cited>" if cited else "<text>")

    def on_text(self, text: str) -> None:
        self.calls.append(text)

    def on_text_end(self) -> None:
        self.calls.append("</text>")

    def on_thinking_start(self) -> None:
        self.calls.append("<thinking>")

    def on_thinking(self, text: str) -> None:
        self.calls.append(text)

    def on_thinking_end(self) -> None:
        self.calls.append("</thinking>")

    def on_tool_call_start(self, event: ToolCallStart) -> None:
        self.calls.append(f"<{event.name}>")

    def on_tool_call_delta(self, event: ToolCallDelta) -> None:
        self.calls.append(event.arguments)

    def on_tool_call_end(self, index: int) -> None:
        self.calls.append(f"</{index}>")

    def on_finish(self, event: Finished) -> None:
        self.calls.append("finish")

    def on_error(self, error: BridgeError, request_id: str) -> None:
        self.calls.append("error")


@pytest.mark.parametrize(
    ("events", "calls"),
    [
        (EMPTY, "start finish"),
        (HELLO, "start <text> Hel lo </text> finish"),
        (
            (STARTED, ThinkingDelta("a"), TextDelta("b"), ThinkingDelta("c"), STOP),
            "start <thinking> a </thinking> <text> b </text> <thinking> c </thinking> finish",
        ),
        (
            (
                STARTED,
                TextDelta("a"),
                ToolCallStart(0, "1", "f"),
                ToolCallDelta(0, "x"),
                ToolCallStart(1, "2", "g"),
                TextDelta("b"),
                STOP,
            ),
            "start <text> a </text> <f> x </0> <g> </1> <text> b </text> finish",
        ),
    ],
)
def test_parts_are_opened_and_closed_around_their_deltas(
    events: Iterable[Event], calls: str
) -> None:
    recorder = Recorder()

    for event in events:
        recorder.feed(event)

    assert recorder.calls == calls.split()
    recorder.check_finished()


@pytest.mark.parametrize(
    ("event", "end"),
    [
        (TextDelta("a"), "</text>"),
        (ThinkingDelta("a"), "</thinking>"),
        (ToolCallStart(3, "1", "f"), "</3>"),
    ],
)
def test_what_is_open_is_closed_before_an_error(event: Event, end: str) -> None:
    recorder = Recorder()
    recorder.feed(STARTED)
    recorder.feed(event)

    recorder.fail(UnavailableError("x"), "req_1")

    assert recorder.calls[-2:] == [end, "error"]


def test_an_answer_that_just_stops_is_an_error() -> None:
    recorder = Recorder()
    recorder.feed(STARTED)

    with pytest.raises(UnavailableError):
        recorder.check_finished()


# Chat, streamed


def stream(
    events: Iterable[Event],
    *,
    include_usage: bool = False,
    include_thinking: bool = False,
    function_call_form: bool = False,
) -> list[Any]:
    encoder = ChatStreamEncoder(
        id="chatcmpl-1",
        created=17,
        include_usage=include_usage,
        include_thinking=include_thinking,
        function_call_form=function_call_form,
    )
    return frames(b"".join(encoder.feed(event) for event in events))


def deltas(sent: list[Any]) -> list[tuple[Any, Any]]:
    return [
        (chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"])
        for chunk in sent
        if isinstance(chunk, dict) and chunk["choices"]
    ]


ROLE = ({"role": "assistant", "content": "", "refusal": None}, None)


def call(index: int, id: str, name: str) -> tuple[Any, None]:
    function = {"name": name, "arguments": ""}
    started = {"index": index, "id": id, "type": "function", "function": function}
    return ({"tool_calls": [started]}, None)


def arguments(index: int, text: str) -> tuple[Any, None]:
    return ({"tool_calls": [{"index": index, "function": {"arguments": text}}]}, None)


def test_a_chunk_has_all_its_keys() -> None:
    first = stream(EMPTY)[0]

    assert first == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 17,
        "model": "claude-opus-5",
        "service_tier": "default",
        "choices": [
            {"index": 0, "delta": ROLE[0], "logprobs": None, "finish_reason": None},
        ],
    }


@pytest.mark.parametrize(
    ("events", "sent"),
    [
        (EMPTY, [ROLE, ({}, "stop")]),
        (HELLO, [ROLE, ({"content": "Hel"}, None), ({"content": "lo"}, None), ({}, "stop")]),
        (
            CALLS,
            [
                ROLE,
                call(0, "toolu_1", "weather"),
                arguments(0, '{"city"'),
                arguments(0, ': "Oslo"}'),
                call(1, "toolu_2", "time"),
                arguments(1, "{}"),
                ({}, "tool_calls"),
            ],
        ),
        ((STARTED, Finished(FinishReason.LENGTH, USAGE)), [ROLE, ({}, "length")]),
        ((STARTED, Finished(FinishReason.REFUSAL, USAGE)), [ROLE, ({}, "content_filter")]),
    ],
)
def test_a_stream(events: Iterable[Event], sent: list[Any]) -> None:
    chunks = stream(events)

    assert deltas(chunks) == sent
    assert chunks[-1] == "data: [DONE]"
    assert all("usage" not in chunk for chunk in chunks[:-1])


def test_thinking_is_sent_if_requested() -> None:
    chunks = stream(CALLS, include_thinking=True)

    assert deltas(chunks)[1] == ({"reasoning_content": "hm"}, None)
    assert [chunk for chunk in chunks if "reasoning_content" not in str(chunk)] == stream(CALLS)


def test_the_deprecated_form_has_calls_without_ids() -> None:
    events = (
        STARTED,
        ToolCallStart(0, "toolu_1", "f"),
        ToolCallDelta(0, "{}"),
        Finished(FinishReason.TOOL_CALLS, USAGE),
    )

    assert deltas(stream(events, function_call_form=True)) == [
        ROLE,
        ({"function_call": {"name": "f", "arguments": ""}}, None),
        ({"function_call": {"arguments": "{}"}}, None),
        ({}, "function_call"),
    ]


def test_usage_comes_in_a_chunk_of_its_own_and_is_null_before() -> None:
    *chunks, usage, done = stream(HELLO, include_usage=True)

    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"] == USAGE_OBJECT
    assert done == "data: [DONE]"


def test_any_text_stays_on_one_line_and_whole() -> None:
    chunks = stream((STARTED, TextDelta(AWKWARD), STOP))

    assert deltas(chunks)[1] == ({"content": AWKWARD}, None)


def test_names_and_ids_are_escaped() -> None:
    events = (Started('m"\n'), ToolCallStart(0, 'i"', 'n"'), ToolCallDelta(0, '{"a":"\n"}'), STOP)

    assert deltas(stream(events))[1:3] == [call(0, 'i"', 'n"'), arguments(0, '{"a":"\n"}')]


def test_the_client_understands_every_chunk() -> None:
    for chunk in stream(CALLS, include_usage=True, include_thinking=True)[:-1]:
        ChatCompletionChunk.model_validate(chunk, strict=False)


def test_an_error_ends_a_stream_without_an_end_mark() -> None:
    encoder = ChatStreamEncoder(id="x", created=0)
    encoder.feed(STARTED)

    (sent,) = frames(encoder.fail(QueueFullError("full"), "req_1"))

    assert sent["error"]["code"] == "queue_full"


def test_an_error_can_come_before_the_start() -> None:
    encoder = ChatStreamEncoder(id="x", created=0)

    (sent,) = frames(encoder.fail(QueueFullError("full"), "req_1"))

    assert set(sent) == {"error"}


# Chat, whole


def reply(
    events: Iterable[Event],
    *,
    include_thinking: bool = False,
    function_call_form: bool = False,
    metadata: dict[str, str] | None = None,
) -> dict[str, Any]:
    collector = ChatReplyCollector(
        id="chatcmpl-1",
        created=17,
        include_thinking=include_thinking,
        function_call_form=function_call_form,
        metadata=metadata,
    )
    for event in events:
        assert collector.feed(event) == b""
    return collector.reply()


def test_a_reply_has_all_its_keys() -> None:
    assert reply(HELLO) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 17,
        "model": "claude-opus-5",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE_OBJECT,
        "service_tier": "default",
    }


def test_calls_alone_leave_the_content_null() -> None:
    choice = reply(CALLS)["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "tool_calls": [
            {
                "id": "toolu_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
            },
            {"id": "toolu_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
        ],
    }


def test_text_beside_calls_is_kept() -> None:
    message = reply((STARTED, TextDelta("a"), *CALLS[1:]))["choices"][0]["message"]

    assert message["content"] == "a"
    assert len(message["tool_calls"]) == 2


def test_an_empty_answer_is_an_empty_text() -> None:
    assert reply(EMPTY)["choices"][0]["message"]["content"] == ""


def test_thinking_is_in_the_reply_if_requested() -> None:
    assert reply(CALLS, include_thinking=True)["choices"][0]["message"]["reasoning_content"] == "hm"
    assert "reasoning_content" not in reply(CALLS)["choices"][0]["message"]
    assert "reasoning_content" not in reply(HELLO, include_thinking=True)["choices"][0]["message"]


def test_a_call_in_the_deprecated_form() -> None:
    events = (*CALLS[:5], Finished(FinishReason.TOOL_CALLS, USAGE))
    choice = reply(events, function_call_form=True)["choices"][0]

    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {
        "name": "weather",
        "arguments": '{"city": "Oslo"}',
    }
    assert "tool_calls" not in choice["message"]


def test_metadata_comes_back() -> None:
    assert reply(HELLO, metadata={"a": "b"})["metadata"] == {"a": "b"}


def test_the_client_understands_the_reply() -> None:
    for events in (HELLO, CALLS, EMPTY):
        ChatCompletion.model_validate(reply(events), strict=False)


def test_an_answer_that_ended_prematurely_makes_no_reply() -> None:
    with pytest.raises(UnavailableError):
        reply(HELLO[:-1])


# Text completions


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_text_stream(include_usage: bool) -> None:
    encoder = TextStreamEncoder(id="cmpl-1", created=17, include_usage=include_usage)
    *chunks, done = frames(b"".join(encoder.feed(event) for event in HELLO))

    assert done == "data: [DONE]"
    if include_usage:
        usage = chunks.pop()
        assert (usage["choices"], usage["usage"]) == ([], USAGE_OBJECT)
        assert all(chunk["usage"] is None for chunk in chunks)
    sent = [(c["choices"][0]["text"], c["choices"][0]["finish_reason"]) for c in chunks]
    assert sent == [("", None), ("Hel", None), ("lo", None), ("", "stop")]
    assert all(("usage" in chunk) is include_usage for chunk in chunks)


def test_a_text_stream_ends_in_its_error() -> None:
    encoder = TextStreamEncoder(id="cmpl-1", created=17)
    encoder.feed(STARTED)

    (sent,) = frames(encoder.fail(UnavailableError("x"), "req_1"))

    assert sent["error"]["code"] == "upstream_error"


def test_a_text_reply() -> None:
    collector = TextReplyCollector(id="cmpl-1", created=17)
    for event in HELLO:
        collector.feed(event)

    made = collector.reply()

    assert made == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 17,
        "model": "claude-opus-5",
        "choices": [{"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE_OBJECT,
    }
    Completion.model_validate(made, strict=False)
