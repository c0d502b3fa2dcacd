"""What goes through the Messages API comes out as it does of chat completions."""

from __future__ import annotations

import pytest

from tests.integration.parity.scenarios import SCENARIOS, new_marker
from tests.integration.parity.test_parity import told
from tests.support.apis import Scenario, grpc_names, over_http, seen_by_model
from tests.support.harness import RunningBridge
from tests.support.http.client import Json
from tests.support.http.messages import Unwritable, body_of, over_messages


def writable(scenario: Scenario) -> bool:
    try:
        body_of(scenario, "")
    except Unwritable:
        return False
    return not scenario.code


ALIKE = [scenario for scenario in SCENARIOS if writable(scenario)]


def seen(bridge: RunningBridge, scenario: Scenario, marker: str) -> Json | None:
    """The request that reached the model; without a limit of tokens that only one API requires."""
    body = seen_by_model(bridge, marker)
    if body is not None and not {"max_tokens", "max_completion_tokens"} & scenario.http.keys():
        del body["max_tokens"]
    return body


def test_most_scenarios_can_be_written() -> None:
    assert len(ALIKE) > 60


@pytest.mark.parametrize("scenario", ALIKE, ids=lambda scenario: scenario.name)
def test_the_messages_api_answers_as_chat_completions_do(
    bridge: RunningBridge, scenario: Scenario
) -> None:
    first, second = new_marker(), new_marker()
    chat = told(over_http(bridge, scenario, first))
    message = told(over_messages(bridge, scenario, second))

    assert seen(bridge, scenario, second) == seen(bridge, scenario, first)
    assert message == chat
    assert message.ignored == grpc_names(scenario.ignored)
