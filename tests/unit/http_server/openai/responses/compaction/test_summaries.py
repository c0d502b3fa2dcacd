"""What a compaction item holds, and what it stands for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.contract import (
    CompletionRequest,
    InvalidRequestError,
    OutputFormat,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from bridge.core.validation import validate
from bridge.http_server.context import CallOptions, ReasoningDisplay
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.compaction.summaries import (
    SUMMARISE,
    packed,
    summary_of,
)
from bridge.http_server.openai.responses.decode import (
    Past,
    Purpose,
    ResponseCall,
    decode_responses,
    parse_responses,
)
from tests.support.harness import assistant, user

TRIGGER = {"type": "compaction_trigger"}
HI = {"role": "user", "content": "hi"}
BE_BRIEF = {"role": "developer", "content": "Be brief."}
HELLO = {"role": "assistant", "content": "Hello."}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
LOOK = {"type": "function", "name": "look"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def compaction(summary: str) -> JsonDict:
    return {"type": "compaction", "encrypted_content": packed(summary)}


def decode(
    *items: Any, past: Past | None = None, purpose: Purpose = Purpose.ANSWER, **parameters: Any
) -> ResponseCall:
    body = {"input": list(items), **parameters}
    wire = parse_responses(body, purpose)
    options = CallOptions(reasoning=ReasoningDisplay.ASKED)
    call = decode_responses(
        wire, body, options, past or Past(), "00ab", keeps=True, purpose=purpose
    )
    validate(call.request)
    return call


def request(*items: Any, past: Past | None = None, **parameters: Any) -> CompletionRequest:
    return decode(*items, past=past, **parameters).request


def said(summary: str) -> str:
    return summary_of(packed(summary), "x")


@given(st.text())
def test_a_summary_comes_back_as_it_was_written(summary: str) -> None:
    assert said(summary).endswith(summary)


@pytest.mark.parametrize(
    "content",
    ["", "gAAAAAB-of-another-server", "bridge-compaction-1.%%%", "bridge-compaction-1._w=="],
)
def test_what_was_made_elsewhere_is_an_error_that_names_it(content: str) -> None:
    with pytest.raises(InvalidRequestError, match="Send the conversation itself") as caught:
        decode({"type": "compaction", "encrypted_content": content}, HI)
    assert caught.value.field == "input[0].encrypted_content"


def test_a_compaction_is_said_by_the_user_and_the_callers_messages_stay() -> None:
    asked = request(BE_BRIEF, HI, compaction("We said hello."), {**HI, "content": "and now?"})

    assert asked.system == "Be brief."
    assert asked.messages == (user("hi", said("We said hello."), "and now?"),)


def test_it_stands_for_all_else_before_it() -> None:
    before = (HI, CALL, OUTPUT, HELLO, compaction("Before."))
    asked = request(*before, compaction("All."), CALL, OUTPUT)

    assert asked.messages == (
        user("hi", said("All.")),
        assistant(ToolCallPart("c1", "look", "{}")),
        user(ToolResultPart("c1", (TextPart("seen"),))),
    )


def test_the_same_holds_for_what_is_kept() -> None:
    past = Past([HI, HELLO, TRIGGER, compaction("All.")])

    assert request({**HI, "content": "more"}, past=past).messages == (
        user("hi", said("All."), "more"),
    )


def test_a_trigger_of_the_past_without_its_summary_says_nothing() -> None:
    past = Past([HI, TRIGGER])

    assert request({**HI, "content": "more"}, past=past).messages == (user("hi", "more"),)


def test_a_trigger_asks_for_a_summary_in_plain_text() -> None:
    call = decode(
        HI,
        HELLO,
        TRIGGER,
        tools=[LOOK],
        tool_choice="required",
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        reasoning={"effort": "low", "summary": "auto"},
    )

    asked = call.request
    assert call.compacts
    assert asked.messages == (user("hi"), assistant("Hello."), user(SUMMARISE))
    assert (asked.tools, asked.tool_choice) == ((), ToolChoice())
    assert asked.output_format == OutputFormat()
    assert not asked.include_thinking
    assert call.items[-1] == {"type": "compaction_trigger", "id": "cmt_00ab_in2"}


def test_a_trigger_can_only_be_the_last_item() -> None:
    with pytest.raises(InvalidRequestError, match="last item") as caught:
        decode(HI, TRIGGER, HI)
    assert caught.value.field == "input[1]"


@pytest.mark.parametrize("items", [[TRIGGER], [], [{**HI, "content": " \n"}], [BE_BRIEF]])
def test_there_must_be_something_to_compact(items: list[JsonDict]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(*items, purpose=Purpose.COMPACT)
    assert caught.value.field == "input"


def test_messages_that_stay_are_all_but_the_assistants() -> None:
    past = Past([{"type": "message", "id": "msg_1", "role": "user", "content": []}])

    call = decode(BE_BRIEF, HELLO, HI, TRIGGER, past=past)

    assert [item["id"] for item in call.messages] == ["msg_1", "msg_00ab_in0", "msg_00ab_in2"]
    assert decode(HI).messages == ()
