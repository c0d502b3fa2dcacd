from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from bridge.core.claude.failures.results import failure_of
from bridge.core.claude.reading.answer_reader import AnswerReader
from bridge.core.contract.errors import (
    BridgeError,
    InvalidRequestError,
    ModelNotFoundError,
    NotLoggedInError,
    PermissionDeniedError,
    PlanLimitError,
    ProcessFailedError,
    TooLargeError,
    UnavailableError,
)
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

Wire = dict[str, Any]

MODEL = "claude-opus-4-8"


def stream(event: Wire, **more: Any) -> Wire:
    return {"type": "stream_event", "event": event, "parent_tool_use_id": None, **more}


def start(model: str = MODEL, **usage: int) -> Wire:
    return stream({"type": "message_start", "message": {"model": model, "usage": usage}})


def text(words: str) -> Wire:
    delta = {"type": "text_delta", "text": words}
    return stream({"type": "content_block_delta", "index": 0, "delta": delta})


def thinking(words: str) -> Wire:
    delta = {"type": "thinking_delta", "thinking": words}
    return stream({"type": "content_block_delta", "index": 0, "delta": delta})


def stop(reason: str | None = "end_turn", sequence: str | None = None, **usage: Any) -> Wire:
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return stream({"type": "message_delta", "delta": delta, "usage": usage})


def block_start(**block: Any) -> Wire:
    return stream({"type": "content_block_start", "index": 0, "content_block": block})


def block_stop() -> Wire:
    return stream({"type": "content_block_stop", "index": 0})


def arguments(piece: str) -> Wire:
    delta = {"type": "input_json_delta", "partial_json": piece}
    return stream({"type": "content_block_delta", "index": 0, "delta": delta})


def synthetic(words: str) -> Wire:
    message = {"model": "<synthetic>", "content": [{"type": "text", "text": words}]}
    return {"type": "assistant", "message": message, "parent_tool_use_id": None}


def result(status: int | None = None, words: object = "", **more: Any) -> Wire:
    return {
        "type": "result",
        "subtype": "success",
        "is_error": True,
        "api_error_status": status,
        "result": words,
        **more,
    }


def ended() -> Wire:
    return {"type": "result", "subtype": "success", "is_error": False, "result": "hi there"}


BEFORE: tuple[Wire, ...] = (
    {"type": "command_lifecycle", "state": "queued"},
    {"type": "command_lifecycle", "state": "started"},
    {"type": "system", "subtype": "init", "model": MODEL},
    {"type": "system", "subtype": "status", "status": "requesting"},
)


def reader(**options: Any) -> AnswerReader:
    return AnswerReader(**{"include_thinking": False, **options})


def feed(it: AnswerReader, lines: Iterable[Wire]) -> list[Event]:
    return [event for line in lines for event in it.feed(line)]


# An answer


def test_an_answer_is_a_start_its_texts_and_an_end_and_nothing_else_that_the_cli_writes() -> None:
    lines = (
        *BEFORE,
        start(input_tokens=12, output_tokens=1),
        block_start(type="text", text=""),
        text("hi "),
        stream({"type": "ping"}),
        text("there"),
        {
            "type": "assistant",
            "message": {"model": MODEL, "content": [{"type": "text", "text": "hi there"}]},
            "parent_tool_use_id": None,
        },
        block_stop(),
        stop(output_tokens=3),
        stream({"type": "message_stop"}),
        {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}},
        ended(),
    )
    it = reader()
    assert feed(it, lines) == [
        Started(MODEL),
        TextDelta("hi "),
        TextDelta("there"),
        Finished(FinishReason.STOP, Usage(input_tokens=12, output_tokens=3)),
    ]
    assert it.stop_reason == "end_turn"
    assert it.begun


def test_nothing_is_known_before_the_model_begins() -> None:
    it = reader()
    assert feed(it, BEFORE) == []
    assert it.stop_reason is None
    assert not it.begun


def test_the_start_names_what_had_no_effect() -> None:
    assert feed(reader(ignored=("seed", "user")), [start()]) == [Started(MODEL, ("seed", "user"))]


def test_thinking_is_hidden_unless_it_was_asked_for() -> None:
    lines = (start(), thinking("hm"), text("yes"), stop())
    assert feed(reader(), lines)[1:-1] == [TextDelta("yes")]
    shown = feed(reader(include_thinking=True), lines)
    assert shown[1:-1] == [ThinkingDelta("hm"), TextDelta("yes")]


def test_a_thought_is_a_beginning_and_while_it_lasts_the_model_thinks() -> None:
    it = reader()
    seen = []
    for line in (
        start(),
        block_start(type="thinking"),
        thinking("hm"),
        block_stop(),
        block_start(type="text", text=""),
        text("yes"),
    ):
        feed(it, [line])
        seen.append((it.begun, it.thinking))
    assert seen == [(False, False), (True, True), (True, True), *[(True, False)] * 3]


def test_signatures_and_encrypted_thinking_are_events_if_they_are_asked_for() -> None:
    signature = {"type": "signature_delta", "signature": "c2ln"}
    lines = (
        start(),
        block_start(type="thinking"),
        thinking("hm"),
        stream({"type": "content_block_delta", "index": 0, "delta": signature}),
        block_stop(),
        block_start(type="redacted_thinking", data="ZW5j"),
        block_stop(),
        stop(),
    )
    signed = [ThinkingDelta("hm"), ThinkingSignature("c2ln"), EncryptedThinking("ZW5j")]

    assert feed(reader(include_thinking=True, include_signatures=True), lines)[1:-1] == signed
    assert feed(reader(include_thinking=True), lines)[1:-1] == signed[:1]
    assert feed(reader(include_signatures=True), lines)[1:-1] == []


def test_citations_belong_to_the_block_that_they_come_in() -> None:
    location = {"type": "char_location", "cited_text": "b"}
    delta = {"type": "citations_delta", "citation": location}
    lines = (
        start(),
        block_start(type="text", text=""),
        text("a "),
        block_stop(),
        block_start(type="text", text="", citations=[]),
        text("b"),
        stream({"type": "content_block_delta", "index": 1, "delta": delta}),
        block_stop(),
        stop(),
    )
    texts = [TextDelta("a "), TextDelta("b")]

    assert feed(reader(), lines)[1:-1] == texts
    assert feed(reader(include_citations=True), lines)[1:-1] == [
        *(TextStart(cited=False), texts[0]),
        *(TextStart(cited=True), texts[1], Citation(location)),
    ]


def test_an_answer_says_the_tokens_of_its_prompt_and_the_models_own_reason() -> None:
    details = {"type": "refusal", "category": "cyber"}
    delta = {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    end = stream({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 2}})
    begun, finished = feed(reader(), (start(input_tokens=12, output_tokens=1), end))

    assert isinstance(begun, Started)
    assert begun.usage == Usage(input_tokens=12, output_tokens=1)
    assert isinstance(finished, Finished)
    assert (finished.stop_reason, finished.stop_details) == ("refusal", details)


def test_the_signature_of_thinking_and_deltas_yet_unknown_are_no_events() -> None:
    for kind in ("signature_delta", "citations_delta", "something_new"):
        delta = {"type": kind, "signature": "abc"}
        line = stream({"type": "content_block_delta", "index": 0, "delta": delta})
        assert feed(reader(include_thinking=True), [start(), line])[1:] == []


def test_kinds_of_lines_yet_unknown_are_no_events() -> None:
    assert feed(reader(), [{"type": "something_new"}, stream({"type": "something_new"})]) == []


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("refusal", FinishReason.REFUSAL),
        ("something_new", FinishReason.STOP),
    ],
)
def test_each_stop_reason_has_its_finish_reason(reason: str, finish: FinishReason) -> None:
    it = reader()
    call = block_start(type="tool_use", id="toolu_1", name="f", input={})
    said = [call, stream({"type": "content_block_stop"})] if reason == "tool_use" else [text("a")]
    events = feed(it, [start(), *said, stop(reason)])
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is finish
    assert it.stop_reason == reason


def test_the_stop_sequence_that_ended_the_answer_is_reported() -> None:
    end = feed(reader(), [start(), stop("stop_sequence", "###")])[-1]
    assert isinstance(end, Finished)
    assert end.stop_sequence == "###"


def test_a_message_delta_without_a_stop_reason_ends_nothing() -> None:
    it = reader()
    assert feed(it, [start(), stop(None, output_tokens=5)])[1:] == []
    assert it.stop_reason is None
    assert it.usage == Usage(output_tokens=5)


# What is not the answer


def test_lines_of_a_subagent_are_no_events_and_do_not_count() -> None:
    it = reader()
    sub = [
        {**line, "parent_tool_use_id": "toolu_1"}
        for line in (start("claude-haiku-4-5", input_tokens=9), text("inner"), stop("end_turn"))
    ]
    assert feed(it, [start(input_tokens=1), *sub, text("outer"), stop()]) == [
        Started(MODEL),
        TextDelta("outer"),
        Finished(FinishReason.STOP, Usage(input_tokens=1)),
    ]


def test_after_the_stop_nothing_is_an_event_not_even_an_error() -> None:
    it = reader()
    feed(it, [start(output_tokens=2), text("a"), stop("max_tokens")])
    usage = it.usage
    after = (
        start(input_tokens=100),
        text("and on it goes"),
        stop("end_turn", output_tokens=50),
        synthetic("API Error: 500"),
        result(500, "API Error: 500"),
    )
    assert feed(it, after) == []
    assert it.usage == usage
    assert it.stop_reason == "max_tokens"


def test_what_the_cli_writes_in_the_models_place_is_never_an_event() -> None:
    it = reader()
    assert feed(it, [*BEFORE, synthetic("API Error: 529 Overloaded")]) == []
    with pytest.raises(UnavailableError):
        feed(it, [result(529, "API Error: 529 Overloaded")])
    assert not it.begun


# Calls of tools


def test_calls_are_streamed_under_the_callers_own_names_and_counted_from_0() -> None:
    it = reader()
    lines = (
        start(),
        block_start(type="text", text=""),
        text("Let me see."),
        block_stop(),
        block_start(type="tool_use", id="toolu_1", name="weather", input={}),
        arguments('{"city": '),
        arguments('"Bonn"}'),
        block_stop(),
        block_start(type="tool_use", id="toolu_2", name="time", input={}),
        block_stop(),
        stop("tool_use"),
    )
    assert feed(it, lines)[1:-1] == [
        TextDelta("Let me see."),
        ToolCallStart(0, "toolu_1", "weather"),
        ToolCallDelta(0, '{"city": '),
        ToolCallDelta(0, '"Bonn"}'),
        ToolCallStart(1, "toolu_2", "time"),
        ToolCallDelta(1, "{}"),
    ]
    assert it.stop_reason == "tool_use"


@pytest.mark.parametrize("pieces", [(), ("",), ("", " ")], ids=["none", "empty", "blank"])
def test_a_call_without_arguments_has_an_empty_object(pieces: tuple[str, ...]) -> None:
    it = reader()
    call = block_start(type="tool_use", id="toolu_1", name="look", input={})
    lines = [start(), call, *map(arguments, pieces), block_stop(), stop("tool_use")]
    deltas = [each.arguments for each in feed(it, lines) if isinstance(each, ToolCallDelta)]
    assert "".join(deltas).strip() == "{}"
    assert it.answer().content[0]["input"] == {}


def test_a_second_beginning_after_a_call_is_an_error() -> None:
    it = reader()
    call = block_start(type="tool_use", id="toolu_1", name="f", input={})
    feed(it, [start(), call])
    with pytest.raises(UnavailableError):
        feed(it, [start()])


# Several upstream calls


@pytest.mark.parametrize("reason", ["pause_turn", "tool_use"])
def test_what_the_cli_continues_by_itself_is_one_answer(reason: str) -> None:
    it = reader(prefix="mcp__client__")
    own = block_start(type="tool_use", id="toolu_1", name="WebSearch", input={})
    first = [start(), text("a"), own, stream({"type": "content_block_stop"}), stop(reason)]
    events = feed(it, [*first, start(), text("b"), stop("end_turn")])
    assert [event for event in events if isinstance(event, TextDelta)] == [
        TextDelta("a"),
        TextDelta("b"),
    ]
    assert it.stop_reason == "end_turn"


def test_usage_is_the_start_and_the_last_delta_of_a_call() -> None:
    it = reader()
    lines = [
        start(
            input_tokens=10,
            cache_read_input_tokens=20,
            cache_creation_input_tokens=30,
            output_tokens=1,
        ),
        stop(None, output_tokens=4),
        stop("end_turn", output_tokens=7, output_tokens_details={"thinking_tokens": 2}),
    ]
    end = feed(it, lines)[-1]
    assert isinstance(end, Finished)
    assert end.usage == Usage(10, 20, 30, 7, 2)
    assert end.usage.prompt_tokens == 60
    assert end.usage.total_tokens == 67


def test_usage_that_a_delta_corrects_is_not_counted_twice() -> None:
    it = reader()
    feed(it, [start(input_tokens=10), stop(input_tokens=11, output_tokens=7)])
    assert it.usage == Usage(input_tokens=11, output_tokens=7)


def test_usage_without_numbers_counts_nothing() -> None:
    it = reader()
    message = {"model": MODEL, "usage": {"input_tokens": None, "output_tokens_details": None}}
    delta = {"stop_reason": "end_turn"}
    feed(it, [stream({"type": "message_start", "message": message})])
    feed(it, [stream({"type": "message_delta", "delta": delta, "usage": None})])
    assert it.usage == Usage()


def test_usage_is_summed_over_calls_and_the_answer_starts_once() -> None:
    it = reader()
    lines = (
        start(input_tokens=10, output_tokens=1),
        thinking("a call that ended prematurely before any text"),
        {"type": "system", "subtype": "api_retry", "attempt": 1},
        start("claude-haiku-4-5", input_tokens=20, cache_read_input_tokens=5, output_tokens=1),
        text("a"),
        stop(output_tokens=6),
    )
    assert feed(it, lines) == [
        Started(MODEL),
        TextDelta("a"),
        Finished(FinishReason.STOP, Usage(input_tokens=30, cache_read_tokens=5, output_tokens=7)),
    ]


def test_a_second_beginning_after_text_is_an_error_and_not_more_text() -> None:
    it = reader()
    feed(it, [start(), text("half of a sen")])
    with pytest.raises(UnavailableError, match="ended prematurely"):
        feed(it, [start()])


def test_a_second_beginning_after_thinking_is_an_error_only_where_thinking_was_shown() -> None:
    lines = (start(), thinking("hm"), start(), text("a"), stop())
    assert feed(reader(), lines)[1] == TextDelta("a")
    with pytest.raises(UnavailableError):
        feed(reader(include_thinking=True), lines)


def test_a_thought_that_ended_prematurely_lasts_no_longer_and_is_no_part_of_the_answer() -> None:
    it = reader()
    feed(it, [start(), block_start(type="thinking"), thinking("hm"), start()])
    assert not it.thinking
    feed(it, [block_start(type="text", text=""), text("a"), block_stop(), stop()])
    assert it.answer().content == ({"type": "text", "text": "a"},)


def test_an_error_in_the_middle_of_the_answer_is_an_error() -> None:
    it = reader()
    feed(it, [start(), text("half")])
    with pytest.raises(UnavailableError):
        feed(it, [result(529, "API Error: Overloaded")])


def test_a_turn_that_ends_without_a_stop_is_an_error_even_if_the_cli_calls_it_a_success() -> None:
    with pytest.raises(ProcessFailedError):
        feed(reader(), [*BEFORE, ended()])


# Usage limits


def test_a_reached_limit_has_its_reset_time() -> None:
    it = reader()
    info = {"status": "rejected", "resetsAt": 1_800_000_000, "rateLimitType": "five_hour"}
    assert feed(it, [{"type": "rate_limit_event", "rate_limit_info": info}]) == []
    assert it.limit_resets_at == 1_800_000_000.0


@pytest.mark.parametrize(
    "info",
    [
        None,
        {},
        {"status": "allowed", "resetsAt": 1},
        {"status": "allowed_warning", "resetsAt": 1},
        {"status": "rejected"},
        {"status": "rejected", "resetsAt": None},
        {"status": "rejected", "resetsAt": "soon"},
    ],
)
def test_a_limit_that_is_not_reached_or_has_no_time_yields_nothing(info: Wire | None) -> None:
    it = reader()
    feed(it, [{"type": "rate_limit_event", "rate_limit_info": info}])
    assert it.limit_resets_at is None


# Errors

SECRET = "Please run /doctor at 10.1.2.3 (sk-ant-secret)"


@pytest.mark.parametrize(
    ("status", "kind", "reason", "retryable"),
    [
        (401, NotLoggedInError, "CLAUDE_NOT_LOGGED_IN", False),
        (403, PermissionDeniedError, "PERMISSION_DENIED", False),
        (404, ModelNotFoundError, "MODEL_NOT_FOUND", False),
        (413, TooLargeError, "REQUEST_TOO_LARGE", False),
        (429, PlanLimitError, "PLAN_LIMIT", False),
        (500, UnavailableError, "UPSTREAM_ERROR", True),
        (502, UnavailableError, "UPSTREAM_ERROR", True),
        (503, UnavailableError, "UPSTREAM_ERROR", True),
        (529, UnavailableError, "OVERLOADED", True),
        (None, ProcessFailedError, "CLAUDE_PROCESS_ERROR", True),
    ],
)
def test_each_status_is_an_error_of_its_own_without_a_word_of_the_clis(
    status: int | None, kind: type[BridgeError], reason: str, retryable: bool
) -> None:
    error = failure_of(result(status, SECRET))
    assert type(error) is kind
    assert error.reason == reason
    assert error.retryable is retryable
    for word in ("doctor", "10.1.2.3", "sk-ant"):
        assert word not in error.message


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("claude-nope", "the model 'claude-nope'"),
        (None, "the default model"),
        ("default", "the default model"),
        ("a\n\x1b[2J\u202eb", r"the model 'a\n\x1b[2J\u202eb'"),
        ("n" * 101, f"the model '{'n' * 100}…'"),
    ],
)
def test_a_model_that_the_api_does_not_have_is_named_as_it_was_asked_for(
    asked: str | None, named: str
) -> None:
    error = failure_of(result(404, ""), asked)
    assert error.message.startswith(f"The Anthropic API does not offer {named} to this account.")


@pytest.mark.parametrize("status", [401, 403, 404, 413, 429, 500, 529, None])
@pytest.mark.parametrize("words", [None, 5, "", {"a": 1}])
def test_a_result_without_a_text_is_the_same_error(status: int | None, words: object) -> None:
    with_text = failure_of(result(status, "x"))
    without = failure_of(result(status, words))
    assert type(without) is type(with_text)
    assert without.message == with_text.message


def test_a_result_without_any_status_field_is_an_error_too() -> None:
    assert type(failure_of({"type": "result"})) is ProcessFailedError


def test_on_a_400_the_apis_own_message_about_the_request_is_passed_on() -> None:
    error = failure_of(result(400, "API Error: 400 temperature: must be at most 1"))
    assert isinstance(error, InvalidRequestError)
    assert error.reason == "UPSTREAM_REFUSED"
    assert error.message == (
        "The Anthropic API refused the request: temperature: must be at most 1"
    )


@pytest.mark.parametrize("words", ["", "API Error: 400 ", "API Error: ", None])
def test_a_400_without_a_text_is_reported_as_a_400(words: str | None) -> None:
    assert failure_of(result(400, words)).message == "The Anthropic API refused the request."


def test_the_words_of_a_400_are_cut() -> None:
    assert len(failure_of(result(400, "x" * 10_000)).message) < 600


@pytest.mark.parametrize("status", [400, None])
@pytest.mark.parametrize(
    "words",
    [
        "Prompt is too long",
        "API Error: 400 prompt is too long: 250000 tokens > 200000 maximum",
        "API Error: 400 input length and `max_tokens` exceed context limit: 190000 + 32000",
    ],
)
def test_a_conversation_that_is_too_long_is_an_error_of_the_messages(
    status: int | None, words: str
) -> None:
    error = failure_of(result(status, words))
    assert isinstance(error, InvalidRequestError)
    assert error.reason == "CONTEXT_LENGTH_EXCEEDED"
    assert error.field == "messages"
    assert "250000" not in error.message


def test_a_missing_login_is_reported_with_a_remedy() -> None:
    error = failure_of(result(None, "Not logged in · Please run /login"))
    assert isinstance(error, NotLoggedInError)
    assert "--demo" in error.message


@pytest.mark.parametrize(
    "words", ["API Error: Connection error.", "API Error: Unable to connect to API (ECONNREFUSED)"]
)
def test_an_api_that_cannot_be_reached_is_unavailable(words: str) -> None:
    error = failure_of(result(None, words))
    assert type(error) is UnavailableError
    assert "ECONNREFUSED" not in error.message
    assert error.retryable


def test_arguments_that_are_nested_without_measure_are_no_arguments() -> None:
    it = reader()
    call = block_start(type="tool_use", id="t", name="pick", input={})
    deep = '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"
    feed(it, [start(), call, arguments(deep), block_stop(), stop("tool_use")])
    with pytest.raises(ValueError, match="nested"):
        it.answer()


def test_a_stream_that_the_cli_ends_without_a_stop_reason_ended_prematurely() -> None:
    it = reader()
    end = stream({"type": "message_stop"})
    # Before anything was passed on, the CLI retries.
    assert len(feed(it, [start(), end, start(), text("Hel")])) == 2
    # Text alone is followed by a result that names the failure.
    assert not feed(it, [end])
    call = block_start(type="tool_use", id="t", name="pick", input={})
    assert len(feed(it, [call, arguments("{}"), block_stop()])) == 2
    with pytest.raises(UnavailableError, match="ended prematurely") as caught:
        feed(it, [end])
    assert caught.value.retryable


@pytest.mark.parametrize("name", ["other", "pi\nck", "Bash", "mcp__client__pick"])
def test_a_call_of_what_is_not_offered_is_no_call(name: str) -> None:
    it = reader(tools={"pick"})
    stray = block_start(type="tool_use", id="t", name=name, input={})
    lines = [start(), text("Hm."), stray, arguments("{}"), block_stop(), stop("tool_use")]
    events = feed(it, [*lines, start(), text("So."), stop()])
    assert [type(event) for event in events] == [Started, TextDelta, TextDelta, Finished]
