"""Tools and the choice among them."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.contract.errors import InvalidRequestError, UnsupportedError
from bridge.core.contract.request import Tool, ToolChoice, ToolMode
from bridge.core.validation import validate
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.shared.call import Call


def decode(**parameters: object) -> Call:
    body = {"messages": [{"role": "user", "content": "hi"}], **parameters}
    call = decode_chat(body, CallOptions())
    validate(call.request)
    return call


def tool(name: str, **more: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


TWO = [tool("a"), tool("b")]
A, B = Tool("a"), Tool("b")


@pytest.mark.parametrize(
    ("parameters", "tools", "choice"),
    [
        ({"tools": None}, (), ToolChoice()),
        ({"tools": [], "tool_choice": "auto"}, (), ToolChoice()),
        ({"tools": TWO}, (A, B), ToolChoice()),
        ({"tools": TWO, "tool_choice": None}, (A, B), ToolChoice()),
        ({"tools": TWO, "tool_choice": "auto"}, (A, B), ToolChoice()),
        ({"tools": TWO, "tool_choice": "none"}, (A, B), ToolChoice(ToolMode.NONE)),
        ({"tools": TWO, "tool_choice": "required"}, (A, B), ToolChoice(ToolMode.REQUIRED)),
        ({"tools": TWO, "tool_choice": named("b")}, (A, B), ToolChoice(ToolMode.NAMED, "b")),
        ({"tools": TWO, "tool_choice": allowed("auto", "b")}, (A, B), ToolChoice(allowed=("b",))),
        (
            {"tools": TWO, "tool_choice": allowed("required", "b", "a")},
            (A, B),
            ToolChoice(ToolMode.REQUIRED, allowed=("b", "a")),
        ),
        ({"tools": TWO, "parallel_tool_calls": False}, (A, B), ToolChoice(parallel=False)),
        (
            {"tools": TWO, "tool_choice": named("a"), "parallel_tool_calls": False},
            (A, B),
            ToolChoice(ToolMode.NAMED, "a", parallel=False),
        ),
        ({"functions": [{"name": "a"}]}, (A,), ToolChoice(parallel=False)),
        (
            {"functions": [{"name": "a"}], "function_call": "none"},
            (A,),
            ToolChoice(ToolMode.NONE, parallel=False),
        ),
        (
            {"functions": [{"name": "a"}], "function_call": {"name": "a"}},
            (A,),
            ToolChoice(ToolMode.NAMED, "a", parallel=False),
        ),
    ],
)
def test_tools_and_choice(
    parameters: dict[str, Any], tools: tuple[Tool, ...], choice: ToolChoice
) -> None:
    decoded = decode(**parameters).request

    assert (decoded.tools, decoded.tool_choice) == (tools, choice)


@pytest.mark.parametrize(
    ("definition", "decoded"),
    [
        (tool("a", description=None, parameters=None), Tool("a")),
        (
            tool("a", description="d", parameters={"type": "object"}),
            Tool("a", "d", {"type": "object"}),
        ),
        ({"function": {"name": "a"}}, Tool("a")),
        ({**tool("a"), "cache_control": {"type": "ephemeral"}}, Tool("a")),
    ],
)
def test_a_definition(definition: dict[str, Any], decoded: Tool) -> None:
    request = decode(tools=[definition]).request

    assert request.tools == (decoded,)
    assert request.ignored == ()


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        (tool("a", strict=True), "tools.function.strict"),
        (tool("a", examples=[1]), "tools.function.examples"),
        ({**tool("a"), "defer": True}, "tools.defer"),
    ],
)
def test_what_has_no_effect_in_a_definition_is_named(definition: object, name: str) -> None:
    assert decode(tools=[definition]).request.ignored == (name,)


def test_strict_false_is_the_default() -> None:
    assert decode(tools=[tool("a", strict=False)]).request.ignored == ()


def test_functions_are_answered_in_their_own_form() -> None:
    assert decode(functions=[{"name": "a"}]).function_call_form
    assert not decode(tools=TWO).function_call_form


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [tool("a"), {"type": "web_search"}]}, "tools[1].type"),
    ],
)
def test_tools_of_other_kinds_are_not_supported(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        decode(**parameters)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"tools": [{"type": "function", "name": "flat"}]}, "tools[0].function"),
        ({"tools": [tool("a"), tool("a")]}, "tools[1].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": named("a")}, "tool_choice.function.name"),
        ({"tools": TWO, "tool_choice": named("c")}, "tool_choice.function.name"),
        ({"tools": TWO, "tool_choice": {"type": "custom"}}, "tool_choice.type"),
        ({"tools": TWO, "tool_choice": {"type": "function"}}, "tool_choice.function"),
        (
            {"tools": TWO, "tool_choice": {"type": "allowed_tools"}},
            "tool_choice.allowed_tools",
        ),
        (
            {"tools": TWO, "tool_choice": allowed("auto")},
            "tool_choice.allowed_tools.tools",
        ),
        (
            {"tools": TWO, "tool_choice": allowed("auto", "a", "c")},
            "tool_choice.allowed_tools.tools[1].function.name",
        ),
        ({"tools": TWO, "functions": [{"name": "a"}]}, "tools"),
        ({"tool_choice": "auto", "functions": [{"name": "a"}]}, "tool_choice"),
        ({"tools": TWO, "function_call": "auto"}, "function_call"),
        ({"functions": [{"name": "a"}, {"name": "a"}]}, "functions[1].name"),
        ({"functions": [{"name": "a"}], "function_call": {"name": "b"}}, "function_call.name"),
    ],
)
def test_a_choice_that_makes_no_sense_names_its_field(
    parameters: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(**parameters)

    assert caught.value.field == field
