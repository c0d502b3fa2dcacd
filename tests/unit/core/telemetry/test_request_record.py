from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bridge.core.contract.events import (
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.limits import BOUNDS
from bridge.core.contract.request import CompletionRequest, Message, Role, TextPart
from bridge.core.contract.states import SessionSource
from bridge.core.contract.usage import Usage
from bridge.core.engine.planning.models import Catalog
from bridge.core.telemetry.request_record import GAP_BOUNDS, Observers, RequestRecord
from bridge.core.telemetry.tracing import request_attributes

REQUEST = CompletionRequest(
    (Message(Role.USER, (TextPart("question"),)),),
    model="opus",
    system="system words",
    request_id="req_1",
    caller="team",
    api="grpc",
)


def answered(*, bodies: bool) -> RequestRecord:
    record = RequestRecord(REQUEST, 10.0, bodies=bodies, started_on=1_800_000_000.0)
    record.leased(SessionSource.WARM, 10.05)
    for at, event in (
        (10.5, Started("claude-opus-9")),
        (10.5, TextDelta("an")),
        (10.504, TextDelta("swer")),
        (11.0, ToolCallStart(0, "a", "add")),
        (11.0, ToolCallDelta(0, '{"x":')),
        (11.0, ToolCallDelta(0, "1}")),
        (12.0, Finished(FinishReason.TOOL_CALLS, Usage(1, 2, 3, 4))),
    ):
        record.see(event, at)
    record.ended(12.0, 1_800_000_002.0)
    return record


def test_a_line_has_times_in_milliseconds_and_no_word_of_the_conversation() -> None:
    line = answered(bodies=False).line()
    assert line == {
        "time": "2027-01-15T08:00:02Z",
        "request_id": "req_1",
        "api": "grpc",
        "key": "team",
        "model_asked": "opus",
        "model": "claude-opus-9",
        "session": "warm",
        "queue_ms": 50,
        "first_token_ms": 500,
        "total_ms": 2000,
        "finish": "tool_calls",
        "error": None,
        "error_cause": None,
        "input_tokens": 1,
        "cache_read_tokens": 2,
        "cache_write_tokens": 3,
        "output_tokens": 4,
        "unseen_calls": None,
        "cost_usd": 0.0,
        "billed": False,
        "payer": "default",
        "client_request_id": None,
        "labels": None,
    }


def test_a_line_has_what_the_caller_says_of_the_request() -> None:
    request = replace(REQUEST, client_request_id="order-1", labels={"team": "search"})

    record = RequestRecord(request, 10.0)

    assert record.line()["client_request_id"] == "order-1"
    assert record.line()["labels"] == {"team": "search"}
    assert "labels" not in record.metadata()


def test_labels_that_are_refused_do_not_fill_the_log() -> None:
    many = {f"{number:0100}": "v" * 1_000 for number in range(1_000)}
    request = replace(REQUEST, client_request_id="i" * 1_000_000, labels=many)

    assert len(json.dumps(RequestRecord(request, 10.0).line())) < 12_000


def test_a_name_of_a_model_that_is_refused_for_its_length_does_not_fill_the_log() -> None:
    request = replace(REQUEST, model="m" * 1_000_000)

    line = RequestRecord(request, 10.0).line()

    assert line["model_asked"] == "m" * BOUNDS.name_characters
    assert len(json.dumps(request_attributes(request))) < 1_000


def test_in_full_a_line_has_the_question_the_answer_and_its_calls() -> None:
    line = json.loads(json.dumps(answered(bodies=True).line()))
    assert line["system"] == "system words"
    assert line["messages"][0]["parts"] == [
        {"text": "question", "system": False, "cache_breakpoint": False}
    ]
    assert line["answer"] == "answer"
    assert line["tool_calls"] == [{"id": "a", "name": "add", "arguments": '{"x":1}'}]


def test_gaps_are_counted_between_the_parts_of_an_answer() -> None:
    record = answered(bodies=False)
    counted = {bound: count for bound, count in zip(GAP_BOUNDS, record.gaps, strict=False) if count}
    assert counted == {0.001: 2, 0.005: 1, 0.5: 1}
    assert round(record.gap_seconds, 6) == 0.5


class Broken:
    def began(self, record: RequestRecord) -> None:
        raise RuntimeError

    ended = booked = began


class Told:
    def __init__(self) -> None:
        self.of: list[str] = []

    def began(self, record: RequestRecord) -> None:
        self.of.append("began")

    def ended(self, record: RequestRecord) -> None:
        self.of.append("ended")

    def booked(self, record: RequestRecord) -> None:
        self.of.append("booked")


def test_an_observer_that_fails_costs_neither_the_others_nor_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told()
    observers = Observers((Broken(), told))
    observers.began(answered(bodies=False))
    observers.ended(answered(bodies=False))
    observers.booked(answered(bodies=False))
    assert told.of == ["began", "ended", "booked"]
    assert caplog.text.count("Broken failed") == 3


def test_a_model_is_reported_by_its_full_name_only_if_it_is_on_offer() -> None:
    offered = [
        {"value": "default", "resolvedModel": "claude-sonnet-9"},
        {"value": "opus", "resolvedModel": "claude-opus-9"},
    ]
    catalog = Catalog.from_cli(offered, aliases={"gpt-*": "opus"})
    told = {name: catalog.offered(name) for name in ("opus", "claude-opus-9", "gpt-4", "x", "")}
    assert told == {
        "opus": "claude-opus-9",
        "claude-opus-9": "claude-opus-9",
        "gpt-4": "claude-opus-9",
        "x": "",
        "": "claude-sonnet-9",
    }
    assert catalog.offered(None) == "claude-sonnet-9"


def test_another_session_still_needs_the_settings() -> None:
    record = RequestRecord(REQUEST, 10.0)
    record.leased(SessionSource.WARM, 10.1)
    record.times.asked_at = 10.2
    record.leased(SessionSource.SPAWNED, 11.0)
    # Otherwise the trace would reveal it before it exists.
    assert record.session_source is SessionSource.SPAWNED
    assert record.times.leased_at == 11.0
    assert record.times.asked_at is None
