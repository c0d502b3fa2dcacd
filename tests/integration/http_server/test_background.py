"""Background responses of a whole server: its end, its restart, its limits, one turn each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.integration.cli.test_serve import served
from tests.support.harness import LONG, PATIENCE, RunningBridge, sim
from tests.support.http.response_events import check_response, check_stream

Start = Callable[..., RunningBridge]
PENDING = ("queued", "in_progress")


def start(url: str, prompt: str, **parameters: Any) -> dict[str, Any]:
    body = {"model": "opus", "input": prompt, "background": True, **parameters}
    reply = httpx.post(f"{url}/v1/responses", json=body, timeout=PATIENCE, trust_env=False)
    assert reply.status_code == 200, reply.text
    return check_response(reply.json())


def get(url: str, id: str, **query: Any) -> httpx.Response:
    where = f"{url}/v1/responses/{id}"
    return httpx.get(where, params=query, timeout=PATIENCE, trust_env=False)


def until(url: str, id: str, *statuses: str) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while (response := get(url, id).json())["status"] not in statuses:
        assert time.monotonic() < end
        time.sleep(0.02)
    return check_response(response)


def drain(running: RunningBridge) -> None:
    running.call(lambda: running.bridge.drain(PATIENCE))


def test_a_drain_lets_a_background_response_finish_and_be_stored(start_bridge: Start) -> None:
    running = start_bridge(pool_size=1)
    ids = [start(running.url, sim(tokens=20, delay_ms=10))["id"] for _ in range(2)]
    drain(running)
    for id in ids:
        # It has ended and is stored by now.
        assert get(running.url, id).json()["status"] == "completed"
    body = {"model": "opus", "input": "Too late.", "background": True}
    refused = httpx.post(f"{running.url}/v1/responses", json=body, timeout=PATIENCE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")


def test_what_does_not_finish_in_time_has_failed(tmp_path: Path, start_bridge: Start) -> None:
    running = start_bridge()
    id = start(running.url, sim(endless=True, delay_ms=20))["id"]
    until(running.url, id, "in_progress")
    running.stop()
    running.start()
    failed = check_response(get(running.url, id).json())
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")


@LONG
def test_after_a_crash_a_response_that_was_running_has_failed(tmp_path: Path) -> None:
    with served(tmp_path, "--demo") as running:
        url = running.wait_for(r"HTTP +(http://[\d.:]+)/v1")[1]
        whole = start(url, sim(text="Whole."))["id"]
        until(url, whole, "completed")
        cut = start(url, sim(endless=True, delay_ms=20))["id"]
        until(url, cut, "in_progress")
        running.process.kill()
        running.process.wait()
    with served(tmp_path, "--demo") as running:
        url = running.wait_for(r"HTTP +(http://[\d.:]+)/v1")[1]
        assert get(url, whole).json()["status"] == "completed"
        failed = check_response(get(url, cut).json())
        assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
        assert get(url, whole, stream=True).status_code == 400


@LONG
def test_an_answer_beyond_the_memory_for_it_fails(start_bridge: Start) -> None:
    running = start_bridge(bridge_detached_megabytes=4)
    id = start(running.url, sim(text="x" * 2_000_000))["id"]
    failed = until(running.url, id, "completed", "failed")
    assert failed["status"] == "failed"
    assert "1048576 bytes" in failed["error"]["message"]
    running.wait_until_settled()


def test_the_events_are_gone_after_their_time_and_the_response_is_not(start_bridge: Start) -> None:
    running = start_bridge(bridge_detached_seconds=0)
    id = start(running.url, sim(text="Stored."))["id"]
    whole = until(running.url, id, "completed")
    running.call(lambda: running.bridge.engine.drain())
    gone = get(running.url, id, stream=True)
    assert (gone.status_code, gone.json()["error"]["param"]) == (400, "stream")
    assert get(running.url, id).json() == whole


def test_a_background_response_is_one_request_for_the_log_and_its_readers_are_none(
    start_bridge: Start,
) -> None:
    running = start_bridge()
    id = start(running.url, sim(text="Once."), metadata={"team": "search"})["id"]
    until(running.url, id, "completed")
    for _ in range(3):
        assert check_stream(get(running.url, id, stream=True).content).last["id"] == id
    drain(running)
    running.bridge.log.flush()
    (line,) = running.log_path.read_text().splitlines()
    assert f'"request_id": "req_{id.removeprefix("resp_")}"' in line
    assert '"labels": {"team": "search"}' in line


async def test_many_read_one_response_at_once(bridge: RunningBridge) -> None:
    id = (await asyncio.to_thread(start, bridge.url, sim(tokens=100, delay_ms=5)))["id"]
    reads = [asyncio.to_thread(get, bridge.url, id, stream=True) for _ in range(5)]
    bodies = {reply.content for reply in await asyncio.gather(*reads)}
    (body,) = bodies
    assert check_stream(body).last["status"] == "completed"
