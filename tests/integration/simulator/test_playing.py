"""Scripts for agents: steps in order over the requests of a conversation, and none mixed up."""

from typing import Any

import httpx

from bridge.simulator import Simulator
from tests.support.simulator_client import failed, names, post, request, run, said

STEPS = [
    {"text": "I look.", "tools": [{"name": "add", "input": {"a": 1}}]},
    {"cut_after": 1, "text": "half", "note": "the agent asks again"},
    {"error": "overloaded"},
    {"text": "done"},
]


async def statuses(client: httpx.AsyncClient, bodies: list[dict[str, Any]]) -> list[str]:
    found = []
    for body in bodies:
        try:
            response = await post(client, body)
        except httpx.TransportError:
            found.append("cut")
        else:
            found.append(said(response.text) if response.status_code == 200 else "error")
    return found


def test_steps_are_played_in_order_whatever_the_turn() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        found = await statuses(client, [request(script="fix")] * 5)
        assert found[:4] == ["I look.", "cut", "error", "done"]
        assert "simulated answer" in found[4]
        assert (await client.get("/simulator/scripts/fix")).json() == {"played": {"": 5}}

    run(scenario, scripts={"fix": {"steps": STEPS}})


def test_conversations_do_not_mix() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        bodies = [request(script="fix", conversation=c) for c in ("a", "b", "a", "b", "a", "b")]
        found = await statuses(client, bodies)
        assert found == ["I look.", "I look.", "cut", "cut", "error", "error"]
        system = {"system": '[[sim {"script": "fix", "conversation": "c"}]]'}
        assert await statuses(client, [request() | system]) == ["I look."]

    run(scenario, scripts={"fix": {"steps": STEPS}})


def test_requests_without_tools_take_no_step() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        title = {k: v for k, v in request(script="fix").items() if k != "tools"}
        found = await statuses(client, [title, request(script="fix"), title])
        assert ["simulated answer" in text for text in found] == [True, False, True]
        assert found[1] == "I look."

    run(scenario, scripts={"fix": {"steps": STEPS, "tools_only": True}})


def test_a_second_try_without_stream_takes_no_step_of_its_own() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        assert names((await post(client, request(script="s"))).text) == ["error"]
        again = (await post(client, request(script="s", stream=False))).json()
        assert again["content"] == [{"type": "text", "text": "again"}]
        assert await statuses(client, [request(script="s")]) == ["next"]

    steps = [{"error_after": "headers", "whole": {"text": "again"}}, {"text": "next"}]
    run(scenario, scripts={"s": {"steps": steps}})


def test_scripts_are_registered_while_it_runs() -> None:
    async def scenario(_: Simulator, client: httpx.AsyncClient) -> None:
        missing = failed(await post(client, request(script="new")))
        assert missing[2] == "bad directive: no script 'new'; known are none"
        url = "/simulator/scripts/new"
        assert (await client.put(url, json={"steps": [{"text": "one"}]})).status_code == 200
        assert await statuses(client, [request(script="new")]) == ["one"]
        await client.put(url, json={"steps": [{"text": "two"}]})
        assert await statuses(client, [request(script="new")]) == ["two"]
        bad = failed(await client.put(url, json={"steps": [{"txet": "x"}]}))
        assert "unknown key 'txet'" in bad[2]
        nested = failed(await client.put(url, json={"steps": [{"script": "new"}]}))
        assert "not inside others" in nested[2]

    run(scenario)
