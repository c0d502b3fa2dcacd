"""More of what the replicas of a fleet share."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from bridge.core.contract.request import CompletionRequest
from tests.support.encoding import chat_body
from tests.support.front_ends import Apis
from tests.support.harness import LONG, PATIENCE, sim, user
from tests.support.http.client import CHAT
from tests.system.fleet.asking import RESPONSES, add_key, new_mark, respond, status, text_of
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.programs import eventually

pytestmark = LONG

TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def test_the_results_of_calls_are_given_at_another_replica(fleet: Fleet) -> None:
    mark = new_mark()
    prompt = sim(tools=[{"name": "weather", "input": {"city": "Rome"}}], note=mark)
    first = respond(fleet["anna"], prompt, tools=[TOOL])
    (call,) = (item for item in first["output"] if item["type"] == "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny."}
    given: list[dict[str, Any]] = [result, {"role": "user", "content": sim(text="It is sunny.")}]
    second = respond(fleet["cleo"], given, tools=[TOOL], previous_response_id=first["id"])
    assert text_of(second) == "It is sunny."
    last = fleet.upstream(mark)[-1]
    assert last.credential == fleet["cleo"].token
    assert last.contains("Sunny.")


def test_a_conversation_goes_on_at_another_replica(fleet: Fleet) -> None:
    mark = new_mark()
    made = fleet["anna"].ask("/v1/conversations", {}).json()
    respond(fleet["anna"], sim(text="One.", note=mark), conversation=made["id"])
    respond(fleet["ben"], sim(text="Two."), conversation=made["id"])
    items = fleet["cleo"].ask(f"/v1/conversations/{made['id']}/items?order=asc").json()["data"]
    assert [item["role"] for item in items] == ["user", "assistant"] * 2
    assert fleet.upstream(mark)[-1].contains("One.")


def test_a_background_response_of_a_replica_that_was_killed_has_failed(fleet: Fleet) -> None:
    running = respond(fleet["anna"], sim(endless=True, delay_ms=20), background=True)
    path = f"{RESPONSES}/{running['id']}"
    fleet["anna"].program.kill()
    eventually(
        lambda: fleet["ben"].ask(path).json()["status"] == "failed",
        lambda: fleet["ben"].ask(path).text,
    )


def test_concurrent_requests_are_counted_over_the_fleet(fleet: Fleet) -> None:
    _, secret = add_key(fleet, "--concurrent", "1")
    mark = new_mark()
    with fleet["anna"].streaming(sim(endless=True, delay_ms=20, note=mark), key=secret):
        fleet.simulator.ledger.wait_for(
            lambda all: any(one.contains(mark) for one in all), PATIENCE
        )
        assert status(fleet["ben"], secret) == 429
    eventually(lambda: status(fleet["ben"], secret) == 200, lambda: "the place is free again")


def test_tokens_are_counted_over_the_fleet(fleet: Fleet) -> None:
    _, secret = add_key(fleet, "--tokens-per-day", "1")
    assert status(fleet["anna"], secret) == 200
    eventually(lambda: status(fleet["ben"], secret) == 429, lambda: "ben knows of the tokens")
    assert status(fleet["cleo"], secret) == 429


def test_a_limit_that_is_changed_holds_at_every_replica(fleet: Fleet) -> None:
    name, secret = add_key(fleet, "--per-minute", "1000")
    fleet["cleo"].run("keys", "edit", name, "--per-minute", "1")

    def refused() -> bool:
        # The one request of this minute may be any of these.
        return [status(replica, secret) for replica in fleet.replicas] == [429] * 3

    eventually(refused, lambda: "every replica has the new limit")


async def test_what_a_key_may_not_is_not_tried_elsewhere(fleet: Fleet, apis: Apis) -> None:
    _, secret = await asyncio.to_thread(add_key, fleet, "--model", "haiku")
    before = fleet.envoy.counts("upstream_rq_retry")
    headers = {"authorization": f"Bearer {secret}"}
    body = {**chat_body(CompletionRequest((user("Hello?"),))), "model": "opus"}
    refused: httpx.Response = await apis.http.post(CHAT, json=body, headers=headers)
    assert refused.status_code == 403, refused.text
    assert refused.headers["x-bridge-error"]
    assert fleet.envoy.counts("upstream_rq_retry") == before
