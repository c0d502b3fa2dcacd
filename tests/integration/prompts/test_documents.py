"""Documents in the results of tools reach the model where they were given, whole."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bridge.core.contract.request import (
    DocumentPart,
    InlineData,
    Message,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tests.integration.parity.scenarios import BOTH, NOTE, PDF, call, new_marker
from tests.support.all_apis import ALL_APIS
from tests.support.apis import Scenario
from tests.support.harness import RunningBridge, assistant, sim, user
from tests.support.replies import Reply

TEXT = {"type": "text", "media_type": "text/plain", "data": "Größe: 3"}


@pytest.fixture(params=ALL_APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(
    bridge: RunningBridge, api: str, messages: tuple[Message, ...], marker: str
) -> tuple[Reply, list[Any]]:
    """The answer, and the results as they last reached the model."""
    scenario = Scenario("", messages, system=f"You are {marker}.", tools=BOTH)
    answer = ALL_APIS[api](bridge, scenario, marker)
    assert answer.failure is None
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    results = [
        block
        for message in exchange.messages
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]
    bridge.wait_until_settled()
    return answer, results


def documents(result: Any) -> list[tuple[Any, Any]]:
    return [
        (block["source"], block.get("title"))
        for block in result["content"]
        if block["type"] == "document"
    ]


def pdf_source() -> dict[str, str]:
    assert isinstance(PDF.source, InlineData)
    return {"type": "base64", "media_type": "application/pdf", "data": PDF.source.base64}


def test_documents_in_a_result_reach_the_model(bridge: RunningBridge, api: str) -> None:
    marker = new_marker()
    messages: tuple[Message, ...] = (
        user("look"),
        assistant(ToolCallPart("toolu_1", "look", "{}")),
        user(ToolResultPart("toolu_1", (PDF, NOTE, TextPart(f"{marker} " + sim(text="ok"))))),
    )
    answer, (result,) = ask(bridge, api, messages, marker)
    assert documents(result) == [(pdf_source(), "paper.pdf"), (TEXT, "note.txt")]
    assert (answer.text, answer.ignored) == ("ok", ())

    messages = (*messages, answer.message, user("and? " + sim(text="yes")))
    answer, (result,) = ask(bridge, api, messages, marker)
    assert documents(result) == [(pdf_source(), "paper.pdf"), (TEXT, "note.txt")]
    assert answer.text == "yes"


def test_documents_for_a_call_that_waits_reach_the_model(bridge: RunningBridge, api: str) -> None:
    marker = new_marker()
    question = user(f"{marker} " + sim(tools=[call(at="it", id=f"toolu_{marker}")]))
    first, _ = ask(bridge, api, (question,), marker)
    given = (PDF, TextPart("see " + sim(text="Empty.")))
    results = user(ToolResultPart(first.calls[0].id, given))
    answer, (result,) = ask(bridge, api, (question, first.message, results), marker)
    assert documents(result) == [(pdf_source(), "paper.pdf")]
    assert answer.text == "Empty."


def test_a_document_is_a_document_by_the_rules_of_a_users_turn(
    bridge: RunningBridge, api: str
) -> None:
    archive = DocumentPart(InlineData("application/zip", base64.b64encode(b"PK").decode()))
    messages = (
        user("look"),
        assistant(ToolCallPart("toolu_1", "look", "{}")),
        user(ToolResultPart("toolu_1", (archive,))),
    )
    failure = ALL_APIS[api](bridge, Scenario("", messages), new_marker()).failure
    assert failure is not None
    assert "Claude reads PDF and plain text" in failure.message
