"""Talking to the simulator over a real socket, as the API's clients do."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from bridge.simulator import Simulator

Scenario = Callable[[Simulator, httpx.AsyncClient], Coroutine[Any, Any, None]]
TOOL = {"name": "add", "input_schema": {"type": "object"}}


def run(scenario: Scenario, **options: Any) -> None:
    """Run a scenario against its own simulator, which must leave no task behind."""

    async def main() -> None:
        async with (
            Simulator(pace_ms=0, **options) as simulator,
            httpx.AsyncClient(
                base_url=simulator.base_url, headers={"x-api-key": "any"}, timeout=60
            ) as client,
        ):
            await scenario(simulator, client)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def request(*, stream: bool = True, said: str = "Hello", **directive: Any) -> dict[str, Any]:
    """A request that offers a tool and bears a directive."""
    text = f"{said} [[sim {json.dumps(directive)}]]" if directive else said
    return {
        "model": "claude-opus-5-5",
        "max_tokens": 100_000,
        "stream": stream,
        "tools": [TOOL],
        "messages": [{"role": "user", "content": text}],
    }


async def post(client: httpx.AsyncClient, body: Any, **options: Any) -> httpx.Response:
    """Ask the Messages API."""
    return await client.post("/v1/messages", json=body, **options)


def events(text: str) -> list[dict[str, Any]]:
    """The events of a stream, pings left out."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [event for event in found if event["type"] != "ping"]


def names(text: str) -> list[str]:
    """What events a stream has, in order, with the kind of each block and delta."""
    found = []
    for event in events(text):
        kind = event.get("content_block", event.get("delta", {})).get("type")
        found.append(f"{event['type']} {kind}" if kind else event["type"])
    return found


def said(text: str) -> str:
    """The text of a streamed answer."""
    deltas = [event["delta"] for event in events(text) if event["type"] == "content_block_delta"]
    return "".join(delta.get("text", "") for delta in deltas)


def failed(response: httpx.Response) -> tuple[int, str, str]:
    """An error answer: its status, type and message."""
    body = response.json()
    assert set(body) == {"type", "error", "request_id"}
    assert body["request_id"] == response.headers["request-id"]
    assert response.headers["content-type"] == "application/json"
    return response.status_code, body["error"]["type"], body["error"]["message"]
