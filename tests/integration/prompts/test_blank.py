"""Texts of blanks: left out, or refused like empty ones, and never replaced by other words.

The API refuses them, and Claude Code writes "(no content)" in their place.
"""

from __future__ import annotations

import pytest

from bridge.core.contract.request import TextPart, Tool, ToolCallPart, ToolResultPart
from tests.integration.parity.scenarios import new_marker
from tests.integration.parity.test_continuing import session_of
from tests.integration.prompts.test_text import ask, seen
from tests.support.all_apis import ALL_APIS
from tests.support.apis import Scenario
from tests.support.harness import RunningBridge, assistant, sim, user

BLANKS = [" ", "\n\n", " \t\n", "\u00a0"]
LOOK = (Tool("look"),)


@pytest.fixture(params=ALL_APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("blank", BLANKS)
def test_before_calls_they_are_left_out_live_and_replayed(
    bridge: RunningBridge, api: str, blank: str
) -> None:
    marker = new_marker()
    turns = [{"text": blank, "tools": [{"name": "look", "raw": "{}"}]}, {"text": "ok"}]
    words = f"{marker} " + sim(turns=turns)
    question = user(words)
    answer, _ = ask(bridge, api, [question], marker, tools=LOOK)
    assert answer.text == blank

    (call,) = answer.calls
    result = user(ToolResultPart(call.id, (TextPart("done"),)))
    live, exchange = ask(bridge, api, [question, answer.message, result], marker, tools=LOOK)
    assert session_of(bridge, live) == "continued"
    told = [("user", [words]), ("assistant", [{}]), ("user", [["done"]])]
    assert seen(exchange) == told

    messages = [question, answer.message, result, live.message, user("more")]
    again, exchange = ask(bridge, api, messages, marker, tools=(*LOOK, Tool("other")))
    assert session_of(bridge, again) != "continued"
    assert seen(exchange)[:3] == told


@pytest.mark.parametrize("blank", ["", *BLANKS])
def test_in_a_history_they_are_left_out_and_nothing_stands_there_instead(
    bridge: RunningBridge, api: str, blank: str
) -> None:
    marker = new_marker()
    last = f"{marker} " + sim(text="ok")
    call = ToolCallPart("toolu_1", "look", "{}")
    messages = [
        user("a", blank, "b"),
        assistant(blank),
        user("c"),
        assistant(blank, call),
        user(ToolResultPart("toolu_1", (TextPart(blank),)), blank),
        assistant("d", blank),
        user(last),
    ]
    _, exchange = ask(bridge, api, messages, marker, tools=LOOK)
    told = seen(exchange)
    assert ["".join(t for t in turn if isinstance(t, str)).strip() for _, turn in told] == [
        f"a{blank}bc",
        "",
        "",
        "d",
        last,
    ]
    assert told[1][1] == [{}]
    assert told[2][1] == [[]]


@pytest.mark.parametrize("blank", BLANKS)
def test_a_prompt_of_blanks_is_refused_like_an_empty_one(
    bridge: RunningBridge, api: str, blank: str
) -> None:
    failures = [
        ALL_APIS[api](
            bridge, Scenario("", (user("a"), assistant("b"), user(text))), new_marker()
        ).failure
        for text in ("", blank)
    ]
    assert failures[0] is not None
    assert failures[0] == failures[1]
    assert failures[0].field == "messages[2]"


@pytest.mark.parametrize("blank", BLANKS)
def test_a_blank_result_is_not_replaced_by_other_words(
    bridge: RunningBridge, api: str, blank: str
) -> None:
    """Claude Code would replace the result of a waiting call with its own sentence."""
    marker = new_marker()
    turns = [{"tools": [{"name": "look", "raw": "{}"}]}, {"text": "ok"}]
    question = user(f"{marker} " + sim(turns=turns))
    answer, _ = ask(bridge, api, [question], marker, tools=LOOK)
    result = ToolResultPart(answer.calls[0].id, (TextPart(blank),))
    last, exchange = ask(bridge, api, [question, answer.message, user(result)], marker, tools=LOOK)
    assert last.text == "ok"
    assert seen(exchange)[-1] == ("user", [[]])


@pytest.mark.parametrize("content", [(), (TextPart(" "),)])
def test_a_failed_result_without_text_is_refused(
    bridge: RunningBridge, content: tuple[TextPart, ...]
) -> None:
    """Only the gRPC API has a field for a failed call."""
    messages = (
        user("a"),
        assistant(ToolCallPart("toolu_1", "look", "{}")),
        user(ToolResultPart("toolu_1", content, is_error=True)),
    )
    failure = ALL_APIS["grpc"](bridge, Scenario("", messages, tools=LOOK), new_marker()).failure
    assert failure is not None
    field = "messages[2].parts[0].tool_result"
    assert (failure.reason, failure.field) == ("invalid_value", field)
    assert "must be text that describes the error" in failure.message
