"""A login that works again is found out without a request: a balancer sends none."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.claude.turn_settings import Profile
from bridge.core.contract.errors import NotLoggedInError
from bridge.core.engine import login_watch
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.engine.login_watch import Verdict, ask_api
from bridge.core.pool.policy import PoolLimits
from bridge.core.telemetry.session_log import SessionLog
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from tests.support.harness import PATIENCE, running_engine, sim, user
from tests.support.logins import log_in

ONE = PoolLimits(1, 1, 0)


async def reaches(engine: Engine, status: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while engine.health().status != status:
            await engine.pool.changed()


async def test_a_refused_login_that_works_again_is_found_out_at_no_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(login_watch, "CHECK_SECONDS", 0.1)
    asked: list[Verdict] = []
    real = login_watch.ask_api

    async with running_engine(tmp_path, ONE) as running:
        engine, simulator = running.engine, running.simulator

        async def counted() -> Verdict:
            asked.append(await real(engine.resources, Profile(None)))
            engine.pool.announce()
            return asked[-1]

        engine._login_watch._ask = counted
        simulator.login_accepted = False
        with pytest.raises(NotLoggedInError):
            await running.ask(user("Hello?"))
        assert engine.health().status == "not_logged_in"
        before = len(simulator.ledger.exchanges())
        async with asyncio.timeout(PATIENCE):
            while len(asked) < 2:
                await engine.pool.changed()
        assert set(asked) == {Verdict.REFUSED}
        assert engine.health().status == "not_logged_in"
        simulator.login_accepted = True
        await reaches(engine, "ok")
        assert asked[-1] is Verdict.ACCEPTED
        assert len(simulator.ledger.exchanges()) == before
        # The process is as good as before.
        assert (await running.ask(user(sim(text="here")))).text == "here"


async def test_a_login_that_was_missing_is_noticed_when_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login_watch, "CHECK_SECONDS", 3000.0)
    async with Simulator(pace_ms=0) as simulator:
        environment = hermetic_environment(os.environ, tmp_path, simulator.base_url)
        del environment["CLAUDE_CODE_OAUTH_TOKEN"]
        launcher = Launcher(bundled_cli(), environment, tmp_path)
        async with Engine(launcher, EngineOptions(ONE), SessionLog(None)) as engine:
            assert engine.health().status == "not_logged_in"
            assert await ask_api(engine.resources, Profile(None)) is Verdict.REFUSED
            await asyncio.to_thread(log_in, tmp_path)
            await reaches(engine, "ok")
            async with asyncio.timeout(PATIENCE):
                while engine.health().account != "Claude Max":
                    await engine.pool.changed()
        assert not simulator.ledger.exchanges()
