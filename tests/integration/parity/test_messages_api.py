"""What goes through the Messages API comes out as it does of chat completions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import httpx
import pytest

from tests.integration.parity.scenarios import SCENARIOS, new_marker
from tests.integration.parity.test_parity import failed, told, without_words
from tests.support.apis import Scenario, grpc_names, over_http, seen_by_model
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim
from tests.support.http.client import Json
from tests.support.http.messages import (
    ENOUGH,
    FIELDS,
    TYPES,
    Unwritable,
    body_of,
    over_messages,
)
from tests.support.waiting import at_once


def writable(scenario: Scenario) -> bool:
    try:
        body_of(scenario, "")
    except Unwritable:
        return False
    return True


ALIKE = [scenario for scenario in SCENARIOS if writable(scenario) and not scenario.code]
FAILING = [scenario for scenario in SCENARIOS if writable(scenario) and scenario.code]
# Claude Code tries each of these again, for two seconds; one of them has a status of its own here.
TRIED_AGAIN = {"upstream 401", "upstream 429", "upstream 500", "the connection is cut at once"}


def seen(bridge: RunningBridge, scenario: Scenario, marker: str) -> Json | None:
    """The request that reached the model; without a limit of tokens that only one API requires."""
    body = seen_by_model(bridge, marker)
    if body is not None and not {"max_tokens", "max_completion_tokens"} & scenario.http.keys():
        del body["max_tokens"]
    return body


def test_most_scenarios_can_be_written() -> None:
    assert {scenario.name for scenario in FAILING} > TRIED_AGAIN
    assert len(ALIKE) > 60
    assert len(FAILING) > 20


@pytest.mark.parametrize("scenario", ALIKE, ids=lambda scenario: scenario.name)
def test_the_messages_api_answers_as_chat_completions_do(
    bridge: RunningBridge, scenario: Scenario
) -> None:
    first, second = new_marker(), new_marker()
    chat, message = at_once(
        lambda: told(over_http(bridge, scenario, first)),
        lambda: told(over_messages(bridge, scenario, second)),
    )

    assert seen(bridge, scenario, second) == seen(bridge, scenario, first)
    assert message == chat
    assert message.ignored == grpc_names(scenario.ignored)


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(s, id=s.name, marks=[LONG] if s.name in TRIED_AGAIN else []) for s in FAILING],
)
def test_the_messages_api_fails_as_chat_completions_do(
    bridge: RunningBridge, scenario: Scenario
) -> None:
    tell = failed if scenario.abrupt else told
    chat, message = at_once(
        lambda: tell(over_http(bridge, scenario, new_marker())),
        lambda: tell(over_messages(bridge, scenario, new_marker())),
    )

    if scenario.own_words:
        chat, message = without_words(chat), without_words(message)
    assert chat.failure is not None
    field = FIELDS.get(scenario.field, scenario.field)
    assert message == replace(chat, failure=replace(chat.failure, field=field))


REJECTED = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": str(int(time.time()) + 7200),
}
WHOLE: Mapping[str, tuple[str, Mapping[str, str], str, int, int]] = {
    "the usage limit": (
        sim(error={"status": 429, "headers": REJECTED}),
        {},
        "plan_limit",
        429,
        429,
    ),
    "500": (sim(error={"status": 500}), {}, "upstream_error", 503, 503),
    "529": (sim(error={"status": 529}), {}, "overloaded", 503, 529),
    "an end in the middle": (sim(tokens=9, error_after=5), {}, "overloaded", 503, 529),
    "the time limit": (
        sim(tokens=50, delay_ms=60_000),
        {"x-bridge-timeout": "2"},
        "deadline_exceeded",
        504,
        504,
    ),
}
"""What goes wrong, with which headers; Anthropic's code; the statuses of chat and of messages."""


@pytest.mark.parametrize(
    ("directive", "headers", "code", "as_chat", "own"), WHOLE.values(), ids=WHOLE
)
def test_whole_answers_fail_alike(
    bridge: RunningBridge,
    directive: str,
    headers: Mapping[str, str],
    code: str,
    as_chat: int,
    own: int,
) -> None:
    body = {"model": "default", "messages": [{"role": "user", "content": f"x {directive}"}]}
    with httpx.Client(base_url=bridge.url, headers=headers, timeout=PATIENCE) as client:
        chat, message = at_once(
            lambda: client.post("/v1/chat/completions", json=body),
            lambda: client.post("/v1/messages", json={**body, "max_tokens": ENOUGH}),
        )

    assert (chat.status_code, message.status_code) == (as_chat, own)
    error = message.json()["error"]
    assert error["type"] == TYPES[own]
    assert error["details"]["error_code"] == code
    assert error["message"] == chat.json()["error"]["message"]
    for header in ("retry-after", "x-should-retry"):
        assert (header in message.headers) is (header in chat.headers), header
