"""What reached the model, as the tests of Anthropic's clients compare it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.harness import RunningBridge


def upstream(bridge: RunningBridge, marker: str) -> dict[str, Any]:
    """The last request with this marker that reached the model."""
    body: dict[str, Any] = json.loads(
        json.dumps(bridge.simulator.ledger.exchanges(containing=marker)[-1].body)
    )
    return body


def spoken(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Its messages without the CLI's own, and without what it marks in them."""
    return [
        {
            **message,
            "content": [
                {name: value for name, value in block.items() if name != "cache_control"}
                for block in message["content"]
            ],
        }
        for message in body["messages"]
        if message["role"] != "system"
    ]
