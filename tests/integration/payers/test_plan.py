"""The plan of a subscription before its first answer, as Claude Code itself can ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import grpc
import httpx
import pytest

from bridge.cli.pool import as_dict, rows_of
from bridge.core.access.keys import KeyFile, KeyOwner, KeyScope, KeyUse
from bridge.doctor.findings import Finding
from bridge.doctor.payers import checked
from bridge.server.launching import named_payers
from bridge.v1 import pool_pb2
from bridge.v1 import pool_pb2_grpc as pool_grpc
from tests.support.harness import PATIENCE, LoopThread, sim
from tests.support.paid_server import KEY, LOGIN, TOKEN, PaidBridge, paid_bridge

MINE = KeyUse(KeyOwner.MINE)
SOON = "2099-11-29T20:00:00.123456+00:00"
USAGE = {
    "five_hour": {"utilization": 37.0, "resets_at": SOON},
    "seven_day": {"utilization": 12, "resets_at": None},
    "seven_day_opus": {"utilization": 100.0, "resets_at": SOON},
    "extra_usage": {"is_enabled": False},
}


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread) -> Iterator[PaidBridge]:
    """A login whose plan is used in part, a token, and an API key, none of which has answered."""
    home = tmp_path_factory.mktemp("plans")
    usage = {LOGIN: {"usage": USAGE}, TOKEN: "everything", KEY: "everything"}
    with paid_bridge(
        home,
        loop_thread,
        ("mine", "ci", "team"),
        {"me": MINE},
        everything=True,
        accounts=usage,
        bridge_max_processes=6,
    ) as paid:
        for engine in paid.bridge.bridge.service.engines:
            paid.bridge.call(engine.plan_asked)
        yield paid


def test_the_limits_of_a_login_are_known_before_its_first_answer(paid: PaidBridge) -> None:
    assert paid.upstream("") == []
    assert paid.simulator.accounts.usage_reads == [LOGIN]
    health = paid.health()
    plans = {payer["name"]: payer["plan"] for payer in health["payers"]}
    assert plans["mine"] == health["plan"]
    assert (plans["mine"]["status"], plans["mine"]["limit"]) == ("allowed", "five_hour")
    assert plans["mine"]["utilization"] == 0.37
    assert plans["mine"]["resets_at"] == pytest.approx(4099665600.123456)
    assert plans["ci"] is plans["team"] is None, "Claude Code does not report them for these"
    file = KeyFile(paid.home / "state" / "keys.json")
    metadata = (("authorization", f"Bearer {file.add('admin', KeyScope.ADMIN, use=MINE)}"),)
    with grpc.insecure_channel(paid.bridge.target) as channel:
        pool = (
            pool_grpc.PoolServiceStub(channel)
            .GetPool(pool_pb2.GetPoolRequest(), metadata=metadata, timeout=PATIENCE)
            .pool
        )
    windows = {window.limit: window.utilization for window in pool.payers[0].plan.windows}
    assert windows == {"five_hour": 0.37, "seven_day": 0.12, "seven_day_opus": 1.0}
    assert [window.of_model for window in pool.payers[0].plan.windows] == [False, False, True]
    text = paid.bridge.bridge.metrics.render()[0].decode()
    assert 'bridge_plan_utilization_ratio{limit="five_hour"} 0.37' in text
    assert 'bridge_payer_utilization_ratio{limit="seven_day",payer="mine"} 0.12' in text
    shown = dict(rows_of(as_dict(pool)))
    assert "five hour 37% used · resets " in shown["payer mine"]
    assert "used" not in shown["payer team"]


async def test_the_checks_of_accounts_show_it(paid: PaidBridge) -> None:
    """They start Claude Code of their own."""
    found = await asyncio.wait_for(checked_payers(paid), PATIENCE)
    mine, ci, team = (finding.found for finding in found)
    assert mine.endswith("used: five hour 37%, seven day 12%, seven day opus 100%")
    assert "used" not in ci + team, "there is no plan, or it is not reported which"
    assert found[0].facts["usage"][0]["utilization"] == 0.37
    paid.simulator.accounts.usage_reads.clear()


async def checked_payers(paid: PaidBridge) -> list[Finding]:
    settings = paid.bridge.settings
    return await checked(settings, named_payers(settings))


def test_a_payer_asks_once_and_not_each_process(paid: PaidBridge) -> None:
    paid.simulator.accounts.usage_reads.clear()
    assert paid.ask("me", sim(text="hi")).status_code == 200

    async def end_processes() -> None:
        for session in paid.bridge.bridge.service.engine("mine").pool.sessions():
            session.kill()

    paid.bridge.call(end_processes)
    assert paid.ask("me", sim(text="hi")).status_code == 200
    assert paid.bridge.bridge.service.engine("mine").pool.totals.started > 1
    assert paid.simulator.accounts.usage_reads == []


def test_the_cost_of_a_turn_that_waits_is_known_without_asking_for_the_plan(
    paid: PaidBridge,
) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    body = {"messages": [{"role": "user", "content": sim(tools=[{"name": "f"}])}], "tools": [tool]}
    headers = {"authorization": f"Bearer {paid.keys['me']}", "x-bridge-include-cost": "true"}
    url = f"{paid.bridge.url}/v1/chat/completions"
    paid.simulator.accounts.usage_reads.clear()
    reply = httpx.post(url, json=body, headers=headers, timeout=PATIENCE).raise_for_status()
    assert reply.json()["usage"]["cost"]["usd"] > 0
    paid.bridge.call(paid.bridge.bridge.service.booked)
    assert paid.simulator.accounts.usage_reads == []


def test_where_it_cannot_be_asked_for_it_is_known_after_the_first_answer(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    """By the operator's own choice of what Claude Code may call."""
    headers = {
        "anthropic-ratelimit-unified-status": "allowed",
        "anthropic-ratelimit-unified-reset": "4102444800",
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
        "anthropic-ratelimit-unified-5h-utilization": "0.5",
        "anthropic-ratelimit-unified-5h-reset": "4102444800",
    }
    with paid_bridge(tmp_path, loop_thread, ("mine",), {"me": MINE}) as paid:
        service = paid.bridge.bridge.service
        paid.bridge.call(service.usual.plan_asked)
        assert paid.health()["plan"] is None
        assert paid.ask("me", sim(text="hi", headers=headers)).status_code == 200

        async def known() -> None:
            async with asyncio.timeout(PATIENCE), aclosing(service.watch_pool()) as states:
                async for state in states:
                    if state.plan is not None:
                        return

        paid.bridge.call(known)
        assert paid.health()["plan"]["status"] == "allowed"
        assert paid.simulator.accounts.usage_reads == []
