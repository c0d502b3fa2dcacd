"""What the CLI reports of its cost, and how it is booked to turns."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.claude.processes.process import ProcessGoneError
from bridge.core.claude.session import Session
from bridge.core.claude.turn_settings import Profile, TurnSettings
from bridge.core.claude.turns import Turn
from bridge.core.contract import Cost, Role, Tool
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from tests.support.waiting import soon

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"


@asynccontextmanager
async def spending(folder: Path) -> AsyncGenerator[Session, None]:
    """A session of the real CLI that answers with Opus."""
    async with Simulator(pace_ms=0) as simulator:
        environment = hermetic_environment(os.environ, folder, simulator.base_url)
        session = await soon(Session.spawn(Launcher(bundled_cli(), environment, folder)))
        try:
            await soon(session.initialise(Profile("A test.")))
            await soon(session.configure(TurnSettings(model="opus")))
            yield session
        finally:
            await soon(session.close())


def turn(words: str, **directive: Any) -> Turn:
    script = f" [[sim {json.dumps(directive)}]]" if directive else ""
    return Turn(Role.USER, ({"type": "text", "text": words + script},))


async def read_to(session: Session, *kinds: str) -> None:
    """Read the turn up to a line of the stream of one of these kinds."""
    while True:
        line = await soon(session.receive())
        if line["type"] == "stream_event" and line["event"]["type"] in kinds:
            return


def total(session: Session) -> float:
    spent = session.spent_usd
    assert spent is not None
    return spent


async def test_the_sum_of_the_booked_costs_is_the_total_of_the_process(tmp_path: Path) -> None:
    async with spending(tmp_path) as session:
        assert await session.book() == Cost()
        booked = []
        for model, history in (("opus", 0), ("opus", 2), ("haiku", 0)):
            await soon(session.configure(TurnSettings(model=model)))
            pair = (turn("Hm?"), Turn(Role.ASSISTANT, ({"type": "text", "text": "Hm."},)))
            await soon(session.replay(pair * history))
            await session.ask(turn("Hello"))
            await read_to(session, "message_delta")
            await soon(session.turn_over())
            booked.append(await soon(session.book()))
            assert await soon(session.reset())
        assert all(cost.known and cost.usd > 0 for cost in booked)
        assert [set(cost.by_model) for cost in booked] == [{OPUS}, {OPUS}, {HAIKU}]
        assert sum(cost.usd for cost in booked) == pytest.approx(total(session), abs=1e-12)
        for cost in booked:
            assert sum(cost.by_model.values()) == pytest.approx(cost.usd, abs=1e-12)
        assert (await session.book()).usd == pytest.approx(0.0, abs=1e-12)


async def test_the_cost_is_known_right_after_the_last_token(tmp_path: Path) -> None:
    async with spending(tmp_path) as session:
        await session.ask(turn("Hello"))
        await read_to(session, "message_delta")
        early = await soon(session.unbooked())
        await soon(session.turn_over())
        assert early == await session.book()
        assert early.usd == pytest.approx(total(session))


async def test_a_turn_that_waits_for_results_is_booked_before_them(tmp_path: Path) -> None:
    async with spending(tmp_path) as session:
        await soon(session.offer([Tool("f", "A tool.", {"type": "object"})]))
        await session.ask(turn("Call it.", tools=[{"name": "f", "id": "toolu_1"}]))
        await read_to(session, "message_stop")
        await soon(session.park(["toolu_1"]))
        waiting = await soon(session.book())
        assert waiting.known
        assert waiting.usd > 0
        result = {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "Done."}],
        }
        await session.resume([result])
        await read_to(session, "message_stop")
        await soon(session.turn_over())
        resumed = await session.book()
        assert resumed.usd > 0
        assert waiting.usd + resumed.usd == pytest.approx(total(session))


async def test_an_interrupted_turn_is_booked(tmp_path: Path) -> None:
    async with spending(tmp_path) as session:
        await session.ask(turn("Write.", endless=True, delay_ms=5))
        await read_to(session, "content_block_delta")
        await soon(session.stop())
        cost = await session.book()
        assert cost.known
        assert 0 < cost.usd == pytest.approx(total(session))


async def test_what_a_killed_process_spent_in_its_turn_is_unknown(tmp_path: Path) -> None:
    async with spending(tmp_path) as session:
        await session.ask(turn("Hello"))
        await read_to(session, "message_delta")
        await soon(session.turn_over())
        await session.ask(turn("Write.", endless=True, delay_ms=5))
        await read_to(session, "content_block_delta")
        session.kill()
        with pytest.raises(ProcessGoneError):
            await read_to(session, "never")
        cost = await session.book()
        assert not cost.known
        assert cost.rounded_usd is None


async def test_a_process_that_is_killed_after_its_turn_is_booked(tmp_path: Path) -> None:
    async with spending(tmp_path) as session:
        await session.ask(turn("Hello"))
        await read_to(session, "message_delta")
        await soon(session.turn_over())
        session.kill()
        await soon(session.close())
        assert (await session.book()).usd == pytest.approx(total(session))
