"""Responses as they are written: each event by the client's own types, and in order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.contract.errors import (
    BridgeError,
    InvalidRequestError,
    PlanLimitError,
    UnavailableError,
)
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
from bridge.core.contract.request import Tool
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.encode import ResponseCollector, ResponseStreamEncoder
from bridge.http_server.openai.responses.tools import OfferedTool, ToolKind
from tests.support.fakes import CALLS, HELLO, STARTED, STOP, USAGE
from tests.support.harness import SCALE
from tests.support.http.response_events import CheckedStream, check_response, check_stream

HEX = "00ab"
ECHO: JsonDict = {
    "background": False,
    "instructions": "Be brief.",
    "max_output_tokens": None,
    "metadata": {"a": "b"},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "service_tier": "default",
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
}
MADE: dict[str, Any] = {
    "hex": HEX,
    "created": 1_700_000_000,
    "echo": ECHO,
    "store": True,
    "clock": lambda: 1_700_000_005.5,
    "tools": {},
}
AWKWARD = 'quote " backslash \\ line\nend \r\u2028 ü 🙂 \ud83d data: x\n\n'
LENGTH = Finished(FinishReason.LENGTH, USAGE)
CALLED = Finished(FinishReason.TOOL_CALLS, USAGE)
TOOLS = {
    "patch": OfferedTool(ToolKind.CUSTOM, "patch", None, Tool("patch", free_text=True)),
    "js__exec": OfferedTool(ToolKind.CUSTOM, "exec", "js", Tool("js__exec", free_text=True)),
    "notes__recall": OfferedTool(ToolKind.FUNCTION, "recall", "notes", Tool("notes__recall")),
    "tool_search": OfferedTool(ToolKind.SEARCH, "tool_search", None, Tool("tool_search")),
}


def stream(*events: Event) -> CheckedStream:
    encoder = ResponseStreamEncoder(**MADE)
    body = b"".join(encoder.feed(event) for event in events)
    return check_stream(body + encoder.last_frame(encoder.reply()))


def broken(error: BridgeError, *events: Event) -> CheckedStream:
    encoder = ResponseStreamEncoder(**MADE)
    body = b"".join(encoder.feed(event) for event in events)
    return check_stream(body + encoder.fail(error, "req_1"))


def whole(*events: Event) -> JsonDict:
    collector = ResponseCollector(**MADE)
    assert b"".join(collector.feed(event) for event in events) == b""
    return check_response(collector.reply())


def test_the_events_of_a_text() -> None:
    assert stream(*HELLO).types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_the_events_of_thinking_and_calls() -> None:
    call = [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    assert stream(*CALLS).types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        *(call[0], call[1], *call[1:]),
        *call,
        "response.completed",
    ]


def test_a_response_has_its_model_its_usage_and_what_was_asked() -> None:
    response = whole(*HELLO)

    assert response["id"] == f"resp_{HEX}"
    assert response["object"] == "response"
    assert (response["created_at"], response["completed_at"]) == (1_700_000_000, 1_700_000_005)
    assert response["model"] == "claude-opus-5"
    assert {name: response[name] for name in ECHO} == ECHO
    assert response["store"] is True
    assert response["usage"] == {
        "input_tokens": 123,
        "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 100},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 130,
    }


def test_the_items_of_a_response() -> None:
    assert whole(*CALLS)["output"] == [
        {
            "id": "rs_00ab_0",
            "type": "reasoning",
            "status": "completed",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": None,
        },
        {
            "id": "fc_00ab_1",
            "type": "function_call",
            "status": "completed",
            "call_id": "toolu_1",
            "name": "weather",
            "arguments": '{"city": "Oslo"}',
        },
        {
            "id": "fc_00ab_2",
            "type": "function_call",
            "status": "completed",
            "call_id": "toolu_2",
            "name": "time",
            "arguments": "{}",
        },
    ]


def test_text_around_a_call_is_two_messages() -> None:
    events: list[Event] = [
        STARTED,
        TextDelta("a"),
        ToolCallStart(0, "t", "f"),
        TextDelta("b"),
        STOP,
    ]

    kinds = [item["type"] for item in whole(*events)["output"]]

    assert kinds == ["message", "function_call", "message"]
    assert stream(*events).last["output"] == whole(*events)["output"]


def test_a_call_without_arguments_has_those_of_no_parameters() -> None:
    checked = stream(STARTED, ToolCallStart(0, "t", "f"), Finished(FinishReason.TOOL_CALLS, USAGE))

    assert checked.last["output"][0]["arguments"] == "{}"


def test_an_answer_of_nothing_is_complete() -> None:
    assert stream(STARTED, STOP).last["output"] == []


@pytest.mark.parametrize(
    ("reason", "why"),
    [(FinishReason.LENGTH, "max_output_tokens"), (FinishReason.REFUSAL, "content_filter")],
)
def test_an_answer_that_was_cut_is_incomplete(reason: FinishReason, why: str) -> None:
    events: list[Event] = [STARTED, ThinkingDelta("hm"), TextDelta("Hel"), Finished(reason, USAGE)]

    checked = stream(*events)

    assert checked.types[-1] == "response.incomplete"
    assert checked.last["incomplete_details"] == {"reason": why}
    assert [item["status"] for item in checked.last["output"]] == ["completed", "incomplete"]
    assert whole(*events)["output"] == checked.last["output"]


def test_a_call_that_was_cut_keeps_its_piece() -> None:
    events: list[Event] = [STARTED, ToolCallStart(0, "t", "f"), ToolCallDelta(0, '{"a'), LENGTH]

    (item,) = stream(*events).last["output"]

    assert (item["status"], item["arguments"]) == ("incomplete", '{"a')
    (item,) = stream(STARTED, ToolCallStart(0, "t", "f"), LENGTH).last["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", "")


def called(name: str, *pieces: str) -> list[Event]:
    deltas = [ToolCallDelta(0, piece) for piece in pieces]
    return [STARTED, ToolCallStart(0, "t", name), *deltas]


@pytest.mark.parametrize(
    ("name", "pieces", "item"),
    [
        ("patch", ["*** Be", "gin\n"], {"type": "custom_tool_call", "input": "*** Begin\n"}),
        ("patch", [], {"type": "custom_tool_call", "input": ""}),
        ("js__exec", ["1"], {"type": "custom_tool_call", "namespace": "js", "input": "1"}),
        ("notes__recall", ["{}"], {"type": "function_call", "namespace": "notes"}),
        ("tool_search", ['{"q"', ': "a"}'], {"type": "tool_search_call", "arguments": {"q": "a"}}),
        ("tool_search", [], {"type": "tool_search_call", "arguments": {}}),
    ],
)
def test_a_call_has_the_form_of_its_tool(
    monkeypatch: pytest.MonkeyPatch, name: str, pieces: list[str], item: JsonDict
) -> None:
    monkeypatch.setitem(MADE, "tools", TOOLS)
    checked = stream(*called(name, *pieces), CALLED)
    (made,) = checked.last["output"]
    assert made["status"] == "completed"
    assert made | item == made
    if name != "tool_search":
        assert made["name"] == TOOLS[name].name
    assert ("namespace" in made) is (TOOLS[name].namespace is not None)
    assert whole(*called(name, *pieces), CALLED)["output"] == [made]


@pytest.mark.parametrize("name", [*TOOLS, "look"])
@pytest.mark.parametrize("end", [None, LENGTH])
def test_a_call_that_did_not_end_is_not_done(
    monkeypatch: pytest.MonkeyPatch, name: str, end: Event | None
) -> None:
    monkeypatch.setitem(MADE, "tools", TOOLS)
    events = called(name, "{}")
    checked = (
        broken(UnavailableError("It broke."), *events) if end is None else stream(*events, end)
    )
    assert [kind for kind in checked.types if kind.endswith("done")] == []
    assert [item["status"] for item in checked.last["output"]] == ["incomplete"]


@pytest.mark.parametrize("text", ['{"a', "[1]", '{"a": NaN}'])
def test_a_call_of_malformed_arguments_is_not_completed(text: str) -> None:
    end = Finished(FinishReason.TOOL_CALLS, USAGE)
    events: list[Event] = [STARTED, ToolCallStart(0, "t", "f"), ToolCallDelta(0, text), end]
    (item,) = stream(*events).last["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", text)
    assert whole(*events)["output"] == [item]


@pytest.mark.parametrize(
    "events",
    [
        [STARTED],
        [STARTED, TextDelta("Hel")],
        [STARTED, ThinkingDelta("hm")],
        [STARTED, TextDelta("Hel"), ToolCallStart(0, "t", "f"), ToolCallDelta(0, "{")],
    ],
)
def test_what_is_open_at_an_error_has_no_end(events: list[Event]) -> None:
    checked = broken(UnavailableError("It broke."), *events)

    assert checked.types[-2:] == ["error", "response.failed"]
    assert checked.last["error"] == {"code": "server_error", "message": "It broke."}
    assert checked.last["store"] is False
    assert not any(kind.endswith("done") for kind in checked.types) or len(checked.items) > 1
    assert [item["status"] for item in checked.last["output"]][-1:] in ([], ["incomplete"])


def test_an_error_after_a_mere_comment_begins_a_response_first() -> None:
    assert broken(UnavailableError("It broke.")).types == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]


@pytest.mark.parametrize(
    ("error", "code", "said", "param"),
    [
        (PlanLimitError("x"), "rate_limit_exceeded", "rate_limit_exceeded", None),
        (UnavailableError("x"), "server_error", "upstream_error", None),
        (
            InvalidRequestError("x", field="text.format"),
            "invalid_prompt",
            "invalid_value",
            "text.format",
        ),
    ],
)
def test_an_error_has_its_codes(
    error: BridgeError, code: str, said: str, param: str | None
) -> None:
    encoder = ResponseStreamEncoder(**MADE)

    body = encoder.feed(STARTED) + encoder.fail(error, "req_1")

    assert check_stream(body).last["error"]["code"] == code
    assert f'"code":"{said}","message":"x","param":'.encode() in body
    assert (param or "null").encode() in body


def test_awkward_text_arrives_as_it_is() -> None:
    checked = stream(STARTED, TextDelta(AWKWARD), ThinkingDelta(AWKWARD), STOP)

    message, thinking = checked.last["output"]
    assert message["content"][0]["text"] == AWKWARD
    assert thinking["summary"][0]["text"] == AWKWARD


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
RUNS: st.SearchStrategy[list[list[Any]]] = st.lists(
    st.one_of(
        st.lists(TEXTS.map(TextDelta), min_size=1, max_size=4),
        st.lists(TEXTS.map(ThinkingDelta), min_size=1, max_size=4),
        st.lists(TEXTS, max_size=4),
    ),
    max_size=6,
)


@given(RUNS, st.sampled_from(FinishReason), st.booleans())
@settings(max_examples=60 * SCALE, derandomize=SCALE == 1, database=None, deadline=None)
def test_any_answer_is_encoded_in_order_and_completely(
    runs: list[list[Any]], reason: FinishReason, breaks: bool
) -> None:
    events: list[Event] = [Started("claude-opus-5")]
    calls = 0
    for run in runs:
        if run and isinstance(run[0], TextDelta | ThinkingDelta):
            events += run
        else:
            events.append(ToolCallStart(calls, f"toolu_{calls}", "look"))
            events += [ToolCallDelta(calls, text) for text in run]
            calls += 1
    if breaks:
        broken(UnavailableError("It broke."), *events)
    else:
        events.append(Finished(reason, USAGE))
        assert stream(*events).last == whole(*events)
