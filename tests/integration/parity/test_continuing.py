"""A conversation that was begun through one API continues through any other."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest

from bridge.core.contract.request import Message, TextPart, ToolResultPart
from tests.integration.parity.scenarios import BOTH, IMAGE, call, new_marker
from tests.support.all_apis import ALL_APIS
from tests.support.apis import Scenario
from tests.support.harness import RunningBridge, sim, user
from tests.support.replies import Reply

ORDERS = list(itertools.permutations(ALL_APIS, 2))


def ask(bridge: RunningBridge, api: str, scenario: Scenario, marker: str) -> Reply:
    """Ask, and wait until the conversation is parked: the end of a stream comes before that."""
    reply = ALL_APIS[api](bridge, scenario, marker)
    bridge.wait_until_settled()
    return reply


def session_of(bridge: RunningBridge, reply: Reply) -> Any:
    """How the session of a request was got, by the log."""
    lines = [json.loads(line) for line in bridge.log_path.read_text().splitlines()]
    (line,) = [line for line in lines if line["request_id"] == reply.request_id]
    return line["session"]


def results(reply: Reply, *contents: Any) -> Message:
    """The results of all calls of an answer."""
    return user(
        *(
            ToolResultPart(call.id, content)
            for call, content in zip(reply.calls, contents, strict=True)
        )
    )


def spoken(bridge: RunningBridge, marker: str) -> list[tuple[str, list[Any]]]:
    """The conversation as it last reached the model, without the CLI's own messages."""
    exchange = bridge.simulator.ledger.exchanges(containing=marker)[-1]
    return [
        (message["role"], message["content"])
        for message in exchange.messages
        if message["role"] != "system"
    ]


@pytest.mark.parametrize("apis", ORDERS, ids="-".join)
def test_a_conversation_continues_through_the_other_api(
    bridge: RunningBridge, apis: tuple[str, ...]
) -> None:
    marker = new_marker()
    # A system prompt of its own, so that it does not go by the habits of other tests.
    opening = user(f"{marker} one " + sim(text="two"))
    scenario = Scenario("", (opening,), system=f"You are {marker}.")
    answers = []
    for api in itertools.islice(itertools.cycle(apis), 3):
        answer = ask(bridge, api, scenario, marker)
        answers.append(answer)
        more = user("and on? " + sim(text=f"to {len(answers)}"))
        scenario = replace(scenario, messages=(*scenario.messages, answer.message, more))
    assert [session_of(bridge, answer) for answer in answers[1:]] == ["continued"] * 2
    assert [role for role, _ in spoken(bridge, marker)] == ["user", "assistant"] * 2 + ["user"]


@pytest.mark.parametrize("apis", ORDERS, ids="-".join)
def test_a_turn_that_waits_for_results_continues_through_the_other_api(
    bridge: RunningBridge, apis: tuple[str, ...]
) -> None:
    marker = new_marker()
    calls = [call(at="it", id=f"toolu_a{marker}"), call("listen", f"toolu_b{marker}")]
    scenario = Scenario("", (user(f"{marker} " + sim(text="I look.", tools=calls)),), tools=BOTH)
    first = ask(bridge, apis[0], scenario, marker)
    assert first.finish == "tool_calls"
    assert [one.name for one in first.calls] == ["look", "listen"]

    given = results(first, (TextPart("a cat"), IMAGE), (TextPart("a purr " + sim(text="A cat.")),))
    answered = replace(scenario, messages=(*scenario.messages, first.message, given))
    second = ask(bridge, apis[1], answered, marker)
    assert (second.text, second.finish) == ("A cat.", "stop")
    assert session_of(bridge, second) == "continued"
    given_to = {block["tool_use_id"] for block in spoken(bridge, marker)[-1][1]}
    assert given_to == {one.id for one in first.calls}

    onwards = replace(answered, messages=(*answered.messages, second.message, user("Sure?")))
    third = ask(bridge, apis[0], onwards, marker)
    assert session_of(bridge, third) == "continued"
