"""The content of an answer, and how the request's own limits cut it."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from bridge.simulator.api import answers
from bridge.simulator.api.schema import minimal
from bridge.simulator.api.stream import Reply
from bridge.simulator.script import BadDirective, Directive, ToolCall

ADD = {
    "name": "add",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}


def ids() -> Callable[[str], str]:
    count = itertools.count(1)
    return lambda prefix: f"{prefix}{next(count)}"


def reply(directive: Directive | None = None, *, said: Any = "Hello", **fields: Any) -> Reply:
    body = {
        "model": "claude-opus-5-5",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": said}],
    }
    return answers.reply(body | fields, directive, ids())


def text(answer: Reply) -> str:
    return "".join(answer.pieces)


def test_an_unscripted_answer_states_that_it_is_simulated_and_quotes_the_question() -> None:
    said = "What is up?<system-reminder>secret</system-reminder> [[sim {}]]"
    messages = [{"role": "user", "content": said}, {"role": "system", "content": "Be brief."}]
    answer = reply(messages=messages)
    assert "simulated" in text(answer)
    assert "“What is up?”" in text(answer)
    assert "secret" not in text(answer)
    assert "brief" not in text(answer)
    assert answer.stop_reason == "end_turn"
    assert 5 < len(answer.pieces) <= 20


def test_unscripted_it_quotes_the_results_of_tools() -> None:
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "42"}],
    }
    answer = reply(said=[result], tools=[ADD, {"name": "StructuredOutput"}])
    assert "“42”" in text(answer)
    assert answer.tools == ()


def test_text_and_tokens() -> None:
    assert text(reply(Directive(text="Hello, world"))) == "Hello, world"
    assert reply(Directive(text="Hello, world")).pieces == ("Hell", "o, w", "orld")
    assert reply(Directive(tokens=3)).pieces == ("w0 ", "w1 ", "w2 ")
    assert reply(Directive(cut_after=2)).pieces == ("w0 ", "w1 ")


def test_max_tokens_cuts() -> None:
    answer = reply(Directive(tokens=10), max_tokens=4)
    assert answer.pieces == ("w0 ", "w1 ", "w2 ", "w3 ")
    assert (answer.stop_reason, answer.output_tokens) == ("max_tokens", 4)
    assert reply(Directive(tokens=4), max_tokens=4).stop_reason == "end_turn"


def test_max_tokens_counts_thinking_and_cuts_calls() -> None:
    thinking = {"thinking": {"type": "adaptive"}}
    answer = reply(Directive(thinking="x" * 40, text="abcd"), max_tokens=5, **thinking)
    assert (len(answer.thinking), answer.pieces) == (20, ())
    call = Directive(tools=(ToolCall("add", {"a": 12345678}),))
    answer = reply(call, max_tokens=2, tools=[ADD])
    assert [tool.input_json for tool in answer.tools] == ['{"a": 12']
    assert answer.stop_reason == "max_tokens"


def test_stop_sequences_cut_at_the_first_one() -> None:
    answer = reply(Directive(text="one, two. three"), stop_sequences=[".", ","])
    assert text(answer) == "one"
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", ",")
    assert reply(Directive(text="one"), stop_sequences=[","]).stop_sequence is None


def test_thinking_only_where_it_is_on() -> None:
    directive = Directive(thinking="hm", text="x")
    assert reply(directive).thinking == ""
    assert reply(directive, thinking={"type": "disabled"}).thinking == ""
    assert reply(directive, thinking={"type": "adaptive"}).thinking == "hm"


def test_calls_take_the_name_on_offer() -> None:
    directive = Directive(text="ok", tools=(ToolCall("add", {"a": 1}), ToolCall("add", id="mine")))
    for name in ("add", "mcp__client__add"):
        answer = reply(directive, tools=[ADD | {"name": name}])
        assert [(t.id, t.name, t.input_json) for t in answer.tools] == [
            ("toolu_1", name, '{"a": 1}'),
            ("mine", name, ""),
        ]
        assert (text(answer), answer.stop_reason) == ("ok", "tool_use")
    with pytest.raises(BadDirective, match="not offered: add"):
        reply(directive, tools=[ADD | {"name": "sub"}])


def test_parallel_calls_can_be_declined() -> None:
    directive = Directive(tools=(ToolCall("add"), ToolCall("add")))
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert len(reply(directive, tools=[ADD], tool_choice=choice).tools) == 1


def test_a_forced_tool_is_called_with_a_minimal_input() -> None:
    held_back = {"name": "Placeholder", "defer_loading": True}
    for choice in ({"type": "any"}, {"type": "tool", "name": "add"}):
        answer = reply(tools=[held_back, ADD], tool_choice=choice)
        assert [(t.name, t.input_json) for t in answer.tools] == [("add", '{"a": 0}')]
    assert reply(tools=[ADD], tool_choice={"type": "auto"}).tools == ()


def test_json_goes_through_the_structured_output_tool_if_offered() -> None:
    directive = Directive(json={"a": [1]}, has_json=True)
    assert json.loads(text(reply(directive))) == {"a": [1]}
    answer = reply(directive, tools=[{"name": "StructuredOutput"}])
    assert [(t.name, t.input_json) for t in answer.tools] == [("StructuredOutput", '{"a": [1]}')]


def test_a_format_is_kept_to() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"]}
    form = {"format": {"type": "json_schema", "schema": schema}}
    assert json.loads(text(reply(output_config=form))) == {"a": "x"}
    tool = {"name": "StructuredOutput", "input_schema": schema}
    assert reply(tools=[tool]).tools[0].input_json == '{"a": "x"}'


def test_echo_repeats_what_was_received() -> None:
    answer = reply(Directive(echo=True), said="hé", temperature=0.5, tools=[ADD], system="abc")
    assert json.loads(text(answer)) == {
        "model": "claude-opus-5-5",
        "max_tokens": 1000,
        "temperature": 0.5,
        "roles": ["user"],
        "texts": ["hé"],
        "tools": ["add"],
        "system_length": 3,
    }


def test_the_stop_reason_can_be_scripted() -> None:
    answer = reply(Directive(text="no", stop_reason="refusal"))
    assert (answer.stop_reason, answer.stop_sequence) == ("refusal", None)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"const": 3}}, "required": ["a"]},
        {"type": "array", "items": {"type": "string", "minLength": 3}, "minItems": 2},
        {"type": ["string", "null"]},
        {"type": "number", "minimum": 2.5},
        {"type": "integer", "exclusiveMinimum": 4},
        {"type": "boolean"},
        {"type": "null"},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string", "format": "date"}}},
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]},
            ]
        },
        {
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                    "required": ["next"],
                }
            },
            "$ref": "#/$defs/node",
        },
    ],
)
def test_the_minimal_instance_is_valid(schema: dict[str, Any]) -> None:
    jsonschema.validate(minimal(schema), schema)


def test_an_endless_schema_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert "next" in minimal(node)


def test_it_follows_its_system_prompt() -> None:
    plain = reply(system="Answer with one JSON object and nothing else.")
    assert "simulated" in json.loads(text(plain))["answer"]
    tools = [{**ADD, "name": f"mcp__client__{name}"} for name in ("add", "sub")]
    named = reply(system="Answer this by calling the tool sub; not in text.", tools=tools)
    assert [tool.name for tool in named.tools] == ["mcp__client__sub"]
    any_one = reply(system="Answer this by calling one of the tools.", tools=tools)
    assert len(any_one.tools) == 1
    assert not reply(system="Answer this by calling one of the tools.").tools
