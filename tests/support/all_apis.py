"""The table of all APIs that a scenario goes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.support.apis import APIS, Scenario
from tests.support.harness import RunningBridge
from tests.support.http.messages import over_messages
from tests.support.replies import Reply

ALL_APIS: Mapping[str, Callable[[RunningBridge, Scenario, str], Reply]] = {
    **APIS,
    "messages": over_messages,
}

UNSAYABLE: Mapping[str, Mapping[str, str]] = {
    "messages": {
        "effort none": "thinking is turned off by itself, and the effort stays",
        "tools out of which some are allowed": "a client offers only those that are allowed",
        "a tool allowed that is not there": "a client offers only those that are allowed",
        "a result of a call that was cut": "the input of a call is JSON, not text",
        "a JSON object": "a format has a schema",
        "a JSON object that does not come": "a format has a schema",
    },
}
"""The scenarios that an API has no words for, each with the reason."""


def apis_of(scenario: Scenario) -> Mapping[str, Callable[[RunningBridge, Scenario, str], Reply]]:
    """Return the APIs that have words for a scenario."""
    return {
        name: api for name, api in ALL_APIS.items() if scenario.name not in UNSAYABLE.get(name, {})
    }
