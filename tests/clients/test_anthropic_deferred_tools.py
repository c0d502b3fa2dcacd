"""Tools that a search of the caller's finds, with Anthropic's client and the real CLI between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.support.harness import PATIENCE, RunningBridge, sim
from tests.support.http.upstream import spoken, upstream

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"item": {"type": "string"}}}
SEARCH = {"name": "search", "input_schema": SCHEMA}
PRICE = {"name": "price", "input_schema": SCHEMA, "defer_loading": True}
STOCK = {**PRICE, "name": "stock"}
HOSTED = {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}


@pytest.fixture
def client(bridge: RunningBridge) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=bridge.url, api_key="any", max_retries=0, timeout=PATIENCE
    ) as client:
        yield client


def asked(messages: list[Any], *tools: Any) -> dict[str, Any]:
    return {"model": "opus", "max_tokens": 999, "messages": messages, "tools": list(tools)}


def offered(body: dict[str, Any]) -> list[str]:
    return [tool["name"] for tool in body["tools"]]


def result(call: Any, *content: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": call.content[-1].id, "content": list(content)}
    return {"role": "user", "content": [block]}


def test_a_deferred_tool_is_called_once_a_reference_names_it(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str
) -> None:
    turns = [
        {"tools": [{"name": "search", "input": {"item": "price"}}]},
        {"tools": [{"name": "price", "input": {"item": "plums"}}]},
        {"text": "They are 3."},
    ]
    tools = (SEARCH, PRICE, STOCK)
    messages: list[Any] = [{"role": "user", "content": f"{marker} {sim(turns=turns)}"}]
    searching = client.messages.create(**asked(messages, *tools))
    first = upstream(bridge, marker)

    found = result(searching, {"type": "tool_reference", "tool_name": "price"})
    messages += [searching.to_param(), found]
    calling = client.messages.create(**asked(messages, *tools))
    second = upstream(bridge, marker)

    messages += [calling.to_param(), result(calling, {"type": "text", "text": "plums cost 3"})]
    last = client.messages.create(**asked(messages, *tools))
    third = upstream(bridge, marker)

    assert [offered(body) for body in (first, second, third)] == [
        ["search"],
        ["search", "price"],
        ["search", "price"],
    ]
    assert not any("defer_loading" in tool for body in (first, second) for tool in body["tools"])
    (read,) = spoken(second)[-1]["content"]
    assert "The tool price is available now." in json.dumps(read["content"])
    assert (calling.content[-1].to_dict()["name"], calling.stop_reason) == ("price", "tool_use")
    assert getattr(last.content[-1], "text", "") == "They are 3."


def test_a_search_that_the_server_lacks_puts_all_tools_on_offer(
    client: anthropic.Anthropic, bridge: RunningBridge, marker: str
) -> None:
    messages = [{"role": "user", "content": f"{marker} {sim(text='a')}"}]
    raw = client.messages.with_raw_response.create(**asked(messages, HOSTED, PRICE, STOCK))

    assert offered(upstream(bridge, marker)) == ["price", "stock"]
    assert raw.headers["x-bridge-ignored-params"] == f"tools.{HOSTED['type']}"
