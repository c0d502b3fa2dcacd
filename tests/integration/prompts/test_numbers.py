"""Numbers that a double cannot hold are never rounded in silence.

Claude Code is a JavaScript program: an id of 19 digits would leave it as the number beside it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.core.contract.request import TextPart, Tool, ToolCallPart, ToolResultPart
from bridge.simulator import Exchange
from tests.integration.parity.scenarios import STRICT, new_marker, schema
from tests.integration.parity.test_continuing import session_of
from tests.integration.prompts.test_text import ask
from tests.support.apis import APIS, Scenario
from tests.support.harness import RunningBridge, assistant, sim, user

ID = 2512292042121000001
EXACT = [2**53, -(2**53), 10**20, 12345678901234567000]
STRICTLY: dict[str, Any] = {"grpc": {"strict": True}, **STRICT}

FIND = Tool("find", "Finds.", {"type": "object", "properties": {"id": {"type": "integer"}}})
ITEM = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "enum": [ID, 3]},
        "size": {"type": "integer", "enum": EXACT, "default": ID},
        "deep": {"type": "array", "items": {"anyOf": [{"const": ID}, {"const": 7}]}},
    },
    "required": ["id"],
    "additionalProperties": False,
}
SENT = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "size": {"type": "integer", "enum": EXACT},
        "deep": {"type": "array", "items": {"anyOf": [{}, {"const": 7}]}},
    },
    "required": ["id"],
    "additionalProperties": False,
}


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inputs(exchange: Exchange) -> list[Any]:
    """The arguments of the calls in what reached the model."""
    return [
        block["input"]
        for message in exchange.messages
        if message["role"] == "assistant"
        for block in message["content"]
        if block["type"] == "tool_use"
    ]


def refused(bridge: RunningBridge, api: str, scenario: Scenario, field: str) -> None:
    failure = APIS[api](bridge, scenario, new_marker()).failure
    assert failure is not None
    assert (failure.reason, failure.field) == ("invalid_value", field)


def test_a_call_with_one_is_replayed_with_its_digits_and_named(
    bridge: RunningBridge, api: str
) -> None:
    marker = new_marker()
    given = {"id": ID, "exact": EXACT, "near": [ID, "x"]}
    calls = [{"name": "find", "input": given, "fragment": 5}]
    question = user(f"{marker} " + sim(turns=[{"tools": calls}, {"text": "ok"}, {"text": "well"}]))
    system = f"You are {marker}."
    answer, _ = ask(bridge, api, [question], marker, system=system, tools=(FIND,))
    (called,) = answer.calls
    assert json.loads(called.arguments) == given
    assert answer.ignored == ()

    result = ToolResultPart(called.id, (TextPart(f'{{"found": {ID}}}'),))
    messages = [question, answer.message, user(result)]
    answer, exchange = ask(bridge, api, messages, marker, system=system, tools=(FIND,))
    assert session_of(bridge, answer) != "continued"
    assert answer.ignored == ("messages",)
    assert inputs(exchange) == [{"id": str(ID), "exact": EXACT, "near": [str(ID), "x"]}]
    assert f'{{"found": {ID}}}' in json.dumps(exchange.messages).replace('\\"', '"')

    messages += [answer.message, user("and then?")]
    answer, exchange = ask(bridge, api, messages, marker, system=system, tools=(FIND,))
    assert answer.ignored == ("messages",)
    assert inputs(exchange)[0]["id"] == str(ID)
    refused(bridge, api, Scenario("", tuple(messages), tools=(FIND,), **STRICTLY), "messages")


def test_a_call_without_one_is_continued(bridge: RunningBridge, api: str) -> None:
    marker = new_marker()
    given = {"exact": EXACT, "text": str(ID), "near": [0.1, 1e22, 1.5]}
    calls = [{"name": "find", "input": given}]
    question = user(f"{marker} " + sim(turns=[{"tools": calls}, {"text": "ok"}]))
    answer, _ = ask(bridge, api, [question], marker, tools=(FIND,))
    result = ToolResultPart(answer.calls[0].id, (TextPart("x"),))
    messages = [question, answer.message, user(result)]
    answer, exchange = ask(bridge, api, messages, marker, tools=(FIND,), **STRICTLY)
    assert session_of(bridge, answer) == "continued"
    assert answer.ignored == ()
    assert inputs(exchange) == [given]


@pytest.mark.parametrize(
    "number", ["0.12345678901234567890", "12345678901234567.89", "9" * 400, "-9007199254740993"]
)
def test_numbers_of_any_kind_keep_their_digits(bridge: RunningBridge, number: str) -> None:
    marker = new_marker()
    call = ToolCallPart("toolu_1", "find", f'{{"n": {number}}}')
    result = ToolResultPart("toolu_1", (TextPart("x"),))
    messages = [user(marker), assistant(call), user(result, sim(text="ok"))]
    answer, exchange = ask(bridge, "http", messages, marker)
    assert inputs(exchange) == [{"n": number}]
    assert answer.ignored == ("messages",)


def test_of_a_tool_the_keyword_is_left_out_and_named(bridge: RunningBridge, api: str) -> None:
    marker = new_marker()
    tools = (Tool("find", "Finds.", ITEM),)
    question = user(f"{marker} " + sim(text="ok"))
    answer, exchange = ask(bridge, api, [question], marker, tools=tools)
    assert exchange.tools[0]["input_schema"] == SENT
    assert answer.ignored == ("tools",)
    refused(bridge, api, Scenario("", (question,), tools=tools, **STRICTLY), "tools")


def test_of_an_answer_the_keyword_is_left_out_named_and_checked(
    bridge: RunningBridge, api: str
) -> None:
    marker = new_marker()
    question = user(f"{marker} " + sim(json={"id": ID, "deep": [7]}))
    answer, exchange = ask(bridge, api, [question], marker, **schema(ITEM))
    assert json.loads(answer.text) == {"id": ID, "deep": [7]}
    assert answer.ignored == ("output_format",)
    assert exchange.body["output_config"]["format"]["schema"] == SENT

    wrong = Scenario("", (user(sim(json={"id": ID - 1})),), **schema(ITEM))
    failure = APIS[api](bridge, wrong, new_marker()).failure
    assert failure is not None
    assert "does not match the schema at id" in failure.message

    strict = schema(ITEM)
    strict["grpc"]["strict"] = True
    refused(bridge, api, Scenario("", (question,), **strict, **STRICT), "output_format")


def test_of_an_answer_that_claude_code_checks_itself(bridge: RunningBridge, api: str) -> None:
    marker = new_marker()
    # The API takes no map of any names.
    shape = {"type": "object", "additionalProperties": {"enum": [ID]}}
    question = user(f"{marker} " + sim(json={"a": ID}))
    answer, exchange = ask(bridge, api, [question], marker, **schema(shape))
    assert json.loads(answer.text) == {"a": ID}
    assert answer.ignored == ("output_format",)
    tool = next(tool for tool in exchange.tools if tool["name"] == "StructuredOutput")
    assert tool["input_schema"]["additionalProperties"] == {}
