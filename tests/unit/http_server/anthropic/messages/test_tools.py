"""Tools on offer, those of a search too, and the choice among them."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.contract.request import CompletionRequest, TextPart, ToolChoice, ToolMode
from bridge.http_server.anthropic.messages.decode import decode_message_request
from bridge.http_server.context import CallOptions

LOOK = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
DEFERRED = {"name": "listen", "input_schema": {"type": "object"}, "defer_loading": True}


def request(*messages: Any, **parameters: Any) -> CompletionRequest:
    asked = list(messages) or [{"role": "user", "content": "hi"}]
    body = {"model": "opus", "max_tokens": 9, "messages": asked, **parameters}
    return decode_message_request(body, CallOptions()).request


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        (None, ToolChoice()),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "none"}, ToolChoice(ToolMode.NONE)),
        ({"type": "any"}, ToolChoice(ToolMode.REQUIRED)),
        ({"type": "tool", "name": "look"}, ToolChoice(ToolMode.NAMED, "look")),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
    ],
)
def test_tool_choices(choice: object, meant: ToolChoice) -> None:
    asked = request(tools=[LOOK], tool_choice=choice)

    assert asked.tool_choice == meant
    assert asked.ignored == ()


def test_a_deferred_tool_is_on_offer_once_a_search_has_found_it() -> None:
    tools = [LOOK, DEFERRED]
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "tool_reference", "tool_name": "listen"}],
    }
    found = request(
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}],
        },
        {"role": "user", "content": [result]},
        tools=tools,
    )

    assert [tool.name for tool in request(tools=tools).tools] == ["look"]
    assert [tool.name for tool in found.tools] == ["look", "listen"]
    (part,) = found.messages[2].parts
    assert getattr(part, "content") == (TextPart("The tool listen is available now."),)  # noqa: B009
    assert found.ignored == ()


def test_beside_a_search_that_the_api_would_run_all_tools_are_on_offer() -> None:
    search = {"type": "tool_search_tool_regex_20251119", "name": "search"}
    asked = request(tools=[search, DEFERRED])

    assert [tool.name for tool in asked.tools] == ["listen"]
    assert asked.ignored == ("tools.tool_search_tool_regex_20251119",)
