"""Tools of every kind that the caller runs: how the model gets them, and how their calls return."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.contract.errors import InvalidRequestError, UnsupportedError
from bridge.core.contract.request import (
    CompletionRequest,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
)
from bridge.core.validation import validate
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.responses.decode import (
    Past,
    ResponseCall,
    decode_responses,
    parse_responses,
)
from bridge.http_server.openai.responses.tools import ToolKind, flat_name

GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
PATCH = {"type": "custom", "name": "patch", "description": "Patches.", "format": GRAMMAR}
RECALL = {"type": "function", "name": "recall", "parameters": {"type": "object"}}
NOTES = {"type": "namespace", "name": "notes", "description": "Notes.", "tools": [RECALL]}
SEARCH = {
    "type": "tool_search",
    "execution": "client",
    "description": "Searches.",
    "parameters": {"type": "object"},
}
HI = {"role": "user", "content": "hi"}


def decoded(past: Past | None = None, **body: Any) -> ResponseCall:
    body = {"input": "hi", **body}
    options = CallOptions(strict=body.pop("strict", False))
    return decode_responses(parse_responses(body), body, options, past or Past(), "1", keeps=True)


def request(**body: Any) -> CompletionRequest:
    return validate(decoded(**body).request)


def more(*tools: Any) -> dict[str, Any]:
    return {"type": "additional_tools", "role": "developer", "tools": list(tools)}


def test_a_custom_tool_takes_one_text_and_its_grammar_is_described() -> None:
    (tool,) = request(tools=[PATCH]).tools
    assert (tool.name, tool.free_text, tool.parameters) == ("patch", True, {})
    assert tool.description == (
        "Patches.\n\nThe input must match this grammar (lark):\nstart: WORD"
    )
    (plain,) = request(tools=[{"type": "custom", "name": "say", "format": {"type": "text"}}]).tools
    assert plain == Tool("say", free_text=True)


def test_a_namespace_offers_its_tools_by_both_names() -> None:
    inner = [RECALL, {"type": "custom", "name": "write"}]
    call = decoded(tools=[{**NOTES, "tools": inner}, {"name": "recall"}])
    names = ["notes__recall", "notes__write", "recall"]
    assert [tool.name for tool in call.request.tools] == names
    assert list(call.tools) == names
    assert "Notes." in call.request.tools[0].description
    offered = call.tools["notes__write"]
    assert (offered.kind, offered.name, offered.namespace) == (ToolKind.CUSTOM, "write", "notes")


def test_a_long_name_is_shortened_to_one_that_the_api_takes() -> None:
    name, namespace = "n" * 64, "s" * 64
    call = decoded(
        tools=[{**NOTES, "name": namespace, "tools": [{"type": "function", "name": name}]}]
    )
    (tool,) = validate(call.request).tools
    assert len(tool.name) == 64
    assert tool.name == flat_name(name, namespace) != flat_name(name[1:], namespace)
    assert call.tools[tool.name].name == name


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"tools": [{"name": "notes__recall"}, NOTES]}, "tools[1].tools[0].name"),
        ({"tools": [NOTES, {"name": "notes__recall"}]}, "tools[1].name"),
        ({"tools": [PATCH, PATCH]}, "tools[1].name"),
        (
            {"tools": [{"name": "notes__recall"}], "input": [HI, more(NOTES)]},
            "input[1].tools[0].tools[0].name",
        ),
    ],
)
def test_two_tools_with_one_name_are_an_error_that_names_the_second(
    body: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError, match="Rename one") as caught:
        decoded(**body)
    assert caught.value.field == field


def test_tools_in_the_conversation_are_offered_too_and_replace_those_before() -> None:
    newer = {**RECALL, "description": "Newer."}
    found = {"type": "tool_search_output", "call_id": "s1", "tools": [newer]}
    asked = {"type": "tool_search_call", "call_id": "s1", "arguments": {"query": "notes"}}
    call = request(tools=[SEARCH], input=[more(RECALL), HI, asked, found])
    assert [(tool.name, tool.description) for tool in call.tools] == [
        ("tool_search", "Searches."),
        ("recall", "Newer."),
    ]
    assert call.messages[1].parts == (ToolCallPart("s1", "tool_search", '{"query": "notes"}'),)
    assert call.messages[2].parts == (ToolResultPart("s1", (TextPart("Tools found: recall"),)),)


def test_calls_and_outputs_come_back_by_the_names_of_the_model() -> None:
    answer = request(
        tools=[PATCH, NOTES],
        input=[
            HI,
            {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": 'a "b"\n'},
            {
                "type": "function_call",
                "call_id": "c2",
                "name": "recall",
                "namespace": "notes",
                "arguments": "{}",
            },
            {
                "type": "custom_tool_call_output",
                "call_id": "c1",
                "output": [{"type": "input_text", "text": "done"}],
            },
            {"type": "function_call_output", "call_id": "c2", "output": "x"},
        ],
    )
    assert answer.messages[1].parts == (
        ToolCallPart("c1", "patch", '{"input": "a \\"b\\"\\n"}'),
        ToolCallPart("c2", "notes__recall", "{}"),
    )
    assert answer.messages[2].parts == (
        ToolResultPart("c1", (TextPart("done"),)),
        ToolResultPart("c2", (TextPart("x"),)),
    )
    assert answer.repaired == ()


@pytest.mark.parametrize(
    ("choice", "decoded_choice"),
    [
        ({"type": "custom", "name": "patch"}, ToolChoice(ToolMode.NAMED, "patch")),
        (
            {"type": "function", "name": "recall", "namespace": "notes"},
            ToolChoice(ToolMode.NAMED, "notes__recall"),
        ),
        ({"type": "tool_search"}, ToolChoice(ToolMode.NAMED, "tool_search")),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [
                    {"type": "custom", "name": "patch"},
                    {"type": "namespace", "name": "notes"},
                    {"type": "tool_search"},
                    {"type": "web_search"},
                ],
            },
            ToolChoice(ToolMode.REQUIRED, allowed=("patch", "notes__recall", "tool_search")),
        ),
    ],
)
def test_a_choice_names_tools_of_every_kind(choice: Any, decoded_choice: ToolChoice) -> None:
    assert request(tools=[PATCH, NOTES, SEARCH], tool_choice=choice).tool_choice == decoded_choice


@pytest.mark.parametrize("kind", ["web_search", "image_generation", "mcp", "local_shell"])
def test_a_hosted_tool_is_named_and_an_error_where_it_counts(kind: str) -> None:
    tools = [PATCH, {"type": kind, "anything": [1]}]
    asked = request(tools=tools)
    assert (len(asked.tools), asked.ignored) == (1, (f"tools.{kind}",))
    with pytest.raises(UnsupportedError) as caught:
        decoded(tools=tools, strict=True)
    assert caught.value.field == "tools[1].type"
    with pytest.raises(UnsupportedError, match="hosts no tools"):
        decoded(tools=tools, tool_choice={"type": kind})


def test_an_effort_in_the_conversation_counts_if_the_request_has_none() -> None:
    changed = {"type": "configuration_update", "reasoning": {"effort": "low"}}
    assert request(input=[HI, changed]).effort == "low"
    assert request(input=[HI, changed], reasoning={"effort": "high"}).effort == "high"


def test_what_is_kept_can_be_read_again() -> None:
    first = decoded(
        tools=[SEARCH],
        input=[
            more(NOTES),
            HI,
            {"type": "web_search_call", "status": "completed"},
            {"type": "tool_search_call", "call_id": "s1", "arguments": {"q": "a"}},
            {"type": "tool_search_output", "call_id": "s1", "tools": [PATCH]},
        ],
    )
    ids = [item["id"] for item in first.items]
    assert len(set(ids)) == len(ids)
    after = decoded(past=Past(first.items), tools=[SEARCH], input="more")
    assert [tool.name for tool in after.request.tools] == ["tool_search", "notes__recall", "patch"]
    assert after.request.messages[:-1] == first.request.messages[:-1]
