"""Whatever goes through one door comes out of the other alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.harness import RunningBridge
from tests.parity.scenarios import DOORS, SCENARIOS, Scenario, new_marker

# OpenAI has names of its own for some of the core's reasons; the others are the same in lower case.
HTTP_CODES = {
    "overloaded_error": "UPSTREAM_ERROR",
    "unsupported_parameter": "UNSUPPORTED_VALUE",
    "unsupported_value": "UNSUPPORTED_VALUE",
    "missing_required_parameter": "INVALID_VALUE",
    "invalid_value": "INVALID_VALUE",
    "invalid_request_error": "INVALID_VALUE",
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_both_doors_answer_alike(bridge: RunningBridge, scenario: Scenario) -> None:
    transcripts = {}
    upstream = {}
    for name, door in DOORS.items():
        marker = new_marker()
        transcript = door(bridge, scenario, marker)
        transcripts[name] = replace(
            transcript, error=HTTP_CODES.get(transcript.error, transcript.error.upper())
        )
        # A set: the CLI itself may have tried a refused call again.
        upstream[name] = {
            str(
                [
                    (message["role"], message["content"])
                    for message in exchange.messages
                    if message["role"] != "system"
                ]
            ).replace(marker, "{id}")
            for exchange in bridge.simulator.ledger.exchanges(containing=marker)
        }
    assert transcripts["http"] == transcripts["grpc"]
    assert upstream["http"] == upstream["grpc"]
