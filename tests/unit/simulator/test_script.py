"""Finding and parsing directives."""

import json
from typing import Any

import pytest

from bridge.simulator import script
from bridge.simulator.api.failures import Failure
from bridge.simulator.script import BadDirective, Directive, ToolCall


def directive(**keys: Any) -> str:
    return f"[[sim {json.dumps(keys)}]]"


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


ASSISTANT = {"role": "assistant", "content": directive(text="not mine to say")}


def in_force(*messages: dict[str, Any], **fields: Any) -> Directive | None:
    found = script.find({"messages": list(messages), **fields})
    return found.in_force if found else None


def test_there_may_be_none() -> None:
    assert script.find({"messages": [user("hello"), ASSISTANT]}) is None


def test_it_is_found_in_a_string_in_a_block_and_in_a_tool_result() -> None:
    text = f"please {directive(text='a]] b')} now"
    block = {"type": "text", "text": text}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
    bare = {"type": "tool_result", "tool_use_id": "t", "content": text}
    for content in (text, [block], [result], [bare]):
        assert in_force(user(content)) == Directive(text="a]] b")


def test_the_newest_one_counts() -> None:
    old, new = directive(text="old"), directive(text="new")
    assert in_force(user(old), ASSISTANT, user(new)) == Directive(text="new")
    assert in_force(user(f"{old} {new}")) == Directive(text="new")
    assert in_force(user(old), ASSISTANT, user("more")) == Directive(text="old")


def test_the_system_prompt_is_the_fallback() -> None:
    system = [{"type": "text", "text": directive(text="system")}]
    assert in_force(user("hello"), system=system) == Directive(text="system")
    assert in_force(user(directive(text="user")), system=system) == Directive(text="user")


def test_turns_go_by_the_assistant_messages_after_it() -> None:
    asked = user(directive(turns=[{"text": "a"}, {"text": "b"}]))
    assert in_force(asked) == Directive(text="a")
    assert in_force(asked, ASSISTANT, user("more")) == Directive(text="b")
    assert in_force(asked, ASSISTANT, user("more"), ASSISTANT, user("more")) is None


def test_tools_are_called_once() -> None:
    asked = user(directive(tools=[{"name": "add"}]))
    assert in_force(asked) == Directive(tools=(ToolCall("add"),))
    assert in_force(asked, ASSISTANT, user("result")) is None


def test_failures_are_counted_by_the_text_and_by_the_turn_of_a_list() -> None:
    one = script.find({"messages": [user(directive(error={"status": 429}))]})
    later = script.find({"messages": [user(directive(error={"status": 429})), ASSISTANT]})
    assert one is not None
    assert later is not None
    assert one.key == later.key
    turns = user(directive(turns=[{"error": {"status": 429}}, {"error": {"status": 429}}]))
    first, second = (script.find({"messages": m}) for m in ([turns], [turns, ASSISTANT]))
    assert first is not None
    assert second is not None
    assert first.key != second.key


def test_all_keys() -> None:
    parsed = script.parse(
        json.dumps(
            {
                "json": None,
                "thinking": "hm",
                "tools": [{"name": "a", "input": {"x": 1}, "fragment": 3, "id": "i"}],
                "stop_reason": "refusal",
                "stop_sequence": "END",
                "error": {"status": 529, "times": 2, "headers": {"retry-after": "1"}},
                "delay_ms": 1.5,
                "first_delay_ms": 2,
                "error_after": 1,
                "cut_after": 2,
                "hang_after": 3,
                "hang": True,
                "headers": {"x-a": "b"},
                "ping_every": 4,
                "usage": {"input_tokens": 9},
                "note": "n",
            }
        )
    )
    assert parsed == Directive(
        has_json=True,
        thinking="hm",
        tools=(ToolCall("a", {"x": 1}, 3, "i"),),
        stop_reason="refusal",
        stop_sequence="END",
        error=Failure(529, "overloaded_error", "a scripted error", {"retry-after": "1"}, 2),
        delay_ms=1.5,
        first_delay_ms=2,
        error_after=1,
        cut_after=2,
        hang_after=3,
        hang=True,
        headers={"x-a": "b"},
        ping_every=4,
        usage={"input_tokens": 9},
        note="n",
    )
    assert parsed.stops_after == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[sim {nonsense}]]", "not JSON"),
        ('[[sim {"text": "x"}', "no ]]"),
        ("[[sim [1]]]", "not an object"),
        (directive(txet="x"), "unknown key 'txet'"),
        (directive(text=1), "text must be a string"),
        (directive(tokens=-1), "tokens must be a count"),
        (directive(tokens=1.5), "tokens must be a count"),
        (directive(echo=1), "echo must be true"),
        (directive(text="a", tokens=1), "only one of"),
        (directive(tools=[{"input": {}}]), "name is missing"),
        (directive(tools=[{"name": "a", "fragment": 0}]), "fragment must be"),
        (directive(tools=[{"name": "a", "arguments": {}}]), "unknown key 'arguments'"),
        (directive(error={"status": 418}), "status must be one of"),
        (directive(error={}), "status is missing"),
        (directive(headers={"a": "b\r\nc"}), "headers must be"),
        (directive(turns=[{"turns": []}]), "not inside turns"),
        (directive(turns=[], text="x"), "turns must be the only key"),
        (directive(error="overlaoded"), "error: kind must be one of invalid_key, "),
        (directive(cut_after="end"), "cut_after must be a count of deltas or one of headers, "),
        (directive(script="x", text="y"), "script allows only conversation"),
        (directive(turns=[{"script": "x"}]), "not inside others"),
        (directive(whole={"turns": []}), "not inside turns, steps or whole"),
        (directive(tools=[{"name": "a", "no_delta": 1}]), "no_delta must be true"),
    ],
)
def test_a_bad_one_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadDirective, match=reason.replace("[", r"\[")):
        script.find({"messages": [user(text)]})
