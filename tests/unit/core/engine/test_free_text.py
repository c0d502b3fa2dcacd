from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.contract.events import (
    Event,
    Finished,
    FinishReason,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.request import Tool
from bridge.core.contract.usage import Usage
from bridge.core.engine.free_text import FreeTextFilter, JsonTextDecoder, as_function

END = Finished(FinishReason.TOOL_CALLS, Usage())
# With half pairs of surrogates, and with what escapes are made of.
TEXTS = st.text(st.sampled_from([*'"\\/u0dD8\n\t\x00{}é\u2028', "😀", "\ud83d", "\ude00"]))


def decoded(arguments: str, cuts: list[int]) -> str:
    decoder = JsonTextDecoder()
    places = sorted({0, len(arguments), *(cut % (len(arguments) + 1) for cut in cuts)})
    pieces = [decoder.feed(arguments[a:b]) for a, b in pairwise(places)]
    return "".join([*pieces, decoder.finish()])


@given(TEXTS, st.booleans(), st.lists(st.integers(0, 400), max_size=40))
def test_a_text_in_pieces_is_the_text(text: str, ascii: bool, cuts: list[int]) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=ascii)
    assert decoded(arguments, cuts) == json.loads(arguments)["input"]


@given(TEXTS)
def test_what_is_sent_early_is_the_beginning_of_the_text(text: str) -> None:
    arguments = json.dumps({"input": text})
    decoder, sent = JsonTextDecoder(), ""
    for sign in arguments:
        sent += decoder.feed(sign)
        assert text.startswith(sent) or json.loads(arguments)["input"].startswith(sent)
    assert sent == json.loads(arguments)["input"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (' {\n "input" : "a" } ', "a"),
        ('{"note": 1, "input": "a"}', "a"),
        ('{"input": "a", "note": 1}', "a"),
        ('{"input": 5}', '{"input": 5}'),
        ('{"patch": "x"}', '{"patch": "x"}'),
        ("not JSON", "not JSON"),
        ("", ""),
        ('{"input": "a\\q\\u12', "aq"),
        ('{"input": "\\u12xy"}', "\\u12xy"),
    ],
)
def test_what_is_not_as_asked_is_not_lost(arguments: str, text: str) -> None:
    assert decoded(arguments, list(range(len(arguments)))) == text


def test_the_calls_of_free_text_tools_have_text_and_the_others_json() -> None:
    events: list[Event] = [
        ToolCallStart(0, "a", "patch"),
        ToolCallDelta(0, '{"input": "x\\'),
        ToolCallDelta(0, 'ny"}'),
        ToolCallStart(1, "b", "look"),
        ToolCallDelta(1, '{"input": "z"}'),
        ToolCallStart(2, "c", "patch"),
        ToolCallDelta(2, "raw"),
        TextDelta("said"),
        END,
    ]
    filter = FreeTextFilter({"patch"})
    assert [given for event in events for given in filter.feed(event)] == [
        ToolCallStart(0, "a", "patch", free_text=True),
        ToolCallDelta(0, "x"),
        ToolCallDelta(0, "\ny"),
        ToolCallStart(1, "b", "look"),
        ToolCallDelta(1, '{"input": "z"}'),
        ToolCallStart(2, "c", "patch", free_text=True),
        ToolCallDelta(2, "raw"),
        TextDelta("said"),
        END,
    ]


def test_the_model_gets_a_function_of_one_text() -> None:
    tool = as_function(Tool("patch", "Patches.", free_text=True))
    assert tool.parameters["required"] == ["input"]
    assert not tool.free_text
    assert as_function(Tool("look")) == Tool("look")
