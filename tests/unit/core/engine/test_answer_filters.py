"""What the bridge itself enforces in an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.contract.events import (
    Citation,
    Event,
    Finished,
    FinishReason,
    TextDelta,
    TextStart,
    ToolCallStart,
)
from bridge.core.contract.usage import Usage
from bridge.core.engine.answer_filters import (
    AnswerFilter,
    JsonFilter,
    RequiredCallFilter,
    StopFilter,
    filtered,
)
from bridge.core.validation.schemas import (
    UnfitAnswerError,
    fault_of_answer,
    fault_of_schema,
    for_api,
)

STOP = Finished(FinishReason.STOP, Usage())
LENGTH = Finished(FinishReason.LENGTH, Usage())
CALL = ToolCallStart(0, "toolu_1", "look")


def text_of(shaper: AnswerFilter, *events: str | Event) -> str:
    given = [TextDelta(event) if isinstance(event, str) else event for event in events]
    return "".join(e.text for e in filtered(given, [shaper]) if isinstance(e, TextDelta))


@given(st.text("ab\n", max_size=30), st.lists(st.integers(1, 4), max_size=30))
def test_a_stop_text_is_found_however_the_text_comes_in_pieces(text: str, cuts: list[int]) -> None:
    pieces, rest = [], text
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces.append(rest)
    shaper = StopFilter(("\n\n", "aba"))
    got = text_of(shaper, *pieces, STOP)
    ends = [at for stop in ("\n\n", "aba") if (at := text.find(stop)) >= 0]
    assert got == (text[: min(ends)] if ends else text)
    assert (shaper.found is not None) is bool(ends)


CITED = (TextStart(cited=True), TextDelta("it is so"), Citation({"cited_text": "so"}))


def test_a_citation_does_not_overtake_its_text() -> None:
    stops = StopFilter(("\n\nstop",))

    assert filtered((*CITED, *CITED, STOP), [stops]) == [
        CITED[0], TextDelta("it "), TextDelta("is so"), CITED[2],
        CITED[0], TextDelta("it "), TextDelta("is so"), CITED[2], STOP,
    ]  # fmt: skip


def test_a_citation_is_held_back_with_its_text() -> None:
    required = RequiredCallFilter(None)

    assert filtered(CITED, [required]) == []
    assert filtered((CALL, STOP), [required]) == [*CITED, CALL, STOP]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (('{"a": ', '"x y"}'), '{"a":"x y"}'),
        (("Sure:\n```json\n", '{"a"', ': {"b": [1, 2]}}', "\n```\nDone."), '{"a":{"b":[1,2]}}'),
        (('{"a": "}{\\"', '"}', '{"b": 1}'), '{"a":"}{\\""}'),
    ],
)
def test_json_comes_alone_and_compact(pieces: tuple[str, ...], expected: str) -> None:
    assert text_of(JsonFilter(), *pieces, STOP) == expected


@pytest.mark.parametrize("text", ["no json", '{"a": 1', '[{"a": 1}]', "  [1]", ""])
def test_what_is_no_object_is_unfit(text: str) -> None:
    with pytest.raises(UnfitAnswerError):
        text_of(JsonFilter(), text, STOP)


def test_json_that_a_limit_cut_is_passed_on_as_it_is() -> None:
    assert text_of(JsonFilter(), '{"a": 1', LENGTH) == '{"a":1'


def test_text_beside_a_call_is_kept() -> None:
    assert text_of(JsonFilter(), "I look.", CALL, LENGTH) == "I look."
    assert text_of(RequiredCallFilter("look"), "I look.", CALL, STOP) == "I look."


def test_an_answer_without_its_call_is_unfit_and_nothing_of_it_is_passed_on() -> None:
    shaper = RequiredCallFilter("look")
    assert filtered([TextDelta("No.")], [shaper]) == []
    with pytest.raises(UnfitAnswerError, match="look"):
        filtered([STOP], [shaper])


OBJECT: dict[str, Any] = {"type": "object"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {},
        {"type": "string"},
        {"type": "nonsense"},
        {"$schema": {}, **OBJECT},
        {**OBJECT, "properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}},
        {**OBJECT, "contains": {"$ref": "file:///etc/hostname"}},
        {**OBJECT, "items": {"$dynamicRef": "http://127.0.0.1:1/x"}},
        {**OBJECT, "properties": 7},
    ],
)
def test_a_schema_that_cannot_be_served_is_refused(schema: Mapping[str, Any]) -> None:
    assert fault_of_schema(schema)


def test_a_pattern_that_takes_for_ever_is_left_to_the_api() -> None:
    schema = {**OBJECT, "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert fault_of_schema(schema) == ""
    assert fault_of_answer(schema, '{"a": "' + "a" * 40 + '!"}') == ""


def test_a_pattern_is_not_compiled_either() -> None:
    # Otherwise this would take 26 seconds.
    schema = {**OBJECT, "properties": {"a": {"pattern": "(" * 20_000 + ")" * 20_000}}}
    assert fault_of_schema(schema) == ""


def test_an_answer_is_checked_against_the_whole_schema() -> None:
    schema = {**OBJECT, "properties": {"a": {"type": "integer", "minimum": 3}}}
    assert fault_of_answer(schema, '{"a": 3}') == ""
    assert fault_of_answer(schema, '{"a": 2}') == "does not match the schema at a"


def test_a_reference_that_leads_nowhere_makes_an_answer_unfit() -> None:
    schema = {**OBJECT, "properties": {"a": {"$ref": "#/$defs/nope"}}}
    assert "cannot be checked" in fault_of_answer(schema, '{"a": 1}')


def test_the_api_gets_the_schema_without_what_it_refuses() -> None:
    schema = {
        **OBJECT,
        "properties": {
            "minimum": {"type": "integer", "minimum": 3},
            "list": {
                "type": "array",
                "minItems": 2,
                "items": {"oneOf": [{"const": {"minimum": 1}}]},
            },
        },
    }
    assert for_api(schema) == {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer"},
            "list": {"type": "array", "items": {"anyOf": [{"const": {"minimum": 1}}]}},
        },
        "additionalProperties": False,
    }
