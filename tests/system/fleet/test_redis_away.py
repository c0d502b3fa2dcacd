"""A fleet whose Redis is gone for a while: it serves, and what needs Redis says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.front_ends import KINDS, Apis
from tests.support.harness import sim
from tests.support.http.response_events import check_response
from tests.support.redis_server import RedisServer
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.programs import eventually
from tests.system.fleet.replica import Replica

RESPONSES = "/v1/responses"

AWAY = (
    pytest.param(RedisServer.kill, RedisServer.start, id="killed"),
    pytest.param(RedisServer.stall, RedisServer.resume, id="stalled"),
)


def respond(replica: Replica, text: str = "Hello?", **fields: Any) -> httpx.Response:
    return replica.ask(RESPONSES, {"model": "default", "input": text, **fields})


@pytest.mark.parametrize(("leave", "come_back"), AWAY)
async def test_a_fleet_serves_without_redis_and_shares_again_when_it_is_back(
    fleet: Fleet,
    apis: Apis,
    leave: Callable[[RedisServer], None],
    come_back: Callable[[RedisServer], None],
) -> None:
    anna, ben = fleet["anna"], fleet["ben"]
    known = respond(anna).json()["id"]
    leave(fleet.redis)
    for kind in KINDS * 2:
        assert await apis.ask(kind, sim(text="Served.")) == "Served."
    failed = await asyncio.to_thread(respond, ben, previous_response_id=known)
    assert failed.status_code == 503, failed.text
    assert failed.json()["error"]["code"] == "store_unavailable"
    assert failed.headers["retry-after"]
    come_back(fleet.redis)

    def shared() -> bool:
        made = respond(anna)
        return made.status_code == 200 and (
            ben.ask(f"{RESPONSES}/{check_response(made.json())['id']}").status_code == 200
        )

    await asyncio.to_thread(eventually, shared, lambda: respond(anna).text)
    # Once for each replica, not once a request.
    for replica in fleet.replicas:
        lines = [line for line in replica.program.output.splitlines() if "Redis" in line]
        assert len(lines) <= 8, lines
