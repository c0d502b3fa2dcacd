"""What the API does wrong, beyond the failures in tests/integration/engine/test_errors.py."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.contract.errors import (
    BridgeError,
    NotLoggedInError,
    PlanLimitError,
    UnavailableError,
)
from bridge.core.engine import usage_limits
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.pool.policy import PoolLimits
from bridge.core.telemetry.session_log import SessionLog
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from tests.support.front_ends import Apis, both_apis
from tests.support.harness import LONG, PATIENCE, RunningEngine, running_engine, sim, user
from tests.support.logins import log_in
from tests.support.replies import Failure


@dataclass(frozen=True)
class Stage:
    """An engine with both APIs, whose streams are kept alive often."""

    engine: RunningEngine
    apis: Apis


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            running_engine(tmp_path_factory.mktemp("upstream"), PoolLimits(3, 6, 2))
        )
        apis = await stack.enter_async_context(both_apis(engine.engine, keep_alive=0.05))
        yield Stage(engine, apis)


async def test_every_failure_of_the_server_is_an_error_that_may_be_tried_again(
    stage: Stage,
) -> None:
    async def failure_of(status: int) -> BridgeError:
        with pytest.raises(UnavailableError) as caught:
            await stage.engine.ask(user(sim(error={"status": status, "message": "secret"})))
        return caught.value

    # At once: each is tried three times by the CLI.
    for error in await asyncio.gather(*map(failure_of, (502, 503, 504))):
        assert error.retryable
        assert "secret" not in error.message
    assert (await stage.engine.ask(user(sim(text="next")))).text == "next"


@pytest.mark.parametrize("kind", ["stream", "grpc", pytest.param("whole", marks=LONG)])
async def test_what_the_cli_tries_again_is_not_seen_and_the_client_is_kept_waiting(
    stage: Stage, kind: str
) -> None:
    note = uuid.uuid4().hex
    words = sim(error={"status": 529, "times": 2}, text="fine", note=note)
    caller = stage.apis.call(kind, words)
    assert (await caller.finish()).outcome == "fine"
    assert len(stage.engine.upstream(note)) == 3
    if kind == "stream":
        # It took more than a second: comments show that the server is alive.
        assert caller.reply.comments > 3


@pytest.mark.parametrize("after", [0, 5])
async def test_an_unreadable_event_does_not_end_an_answer_well(stage: Stage, after: int) -> None:
    failure = await stage.apis.ask("stream", sim(tokens=50, garbage_after=after))
    assert isinstance(failure, Failure)
    assert failure.reason in ("upstream_error", "claude_process_error")
    assert "JSON" not in failure.message
    assert await stage.apis.ask("whole", sim(text="next")) == "next"


async def test_an_api_that_cannot_be_reached_is_an_error_that_may_be_tried_again(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        upstream = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    launcher = Launcher(
        bundled_cli(), hermetic_environment(os.environ, tmp_path, upstream), tmp_path
    )
    async with (
        Engine(launcher, EngineOptions(PoolLimits(1, 1, 0)), SessionLog(None)) as engine,
        both_apis(engine) as apis,
    ):
        failure = await apis.ask("grpc", "Hello?")
        assert isinstance(failure, Failure)
        assert (failure.status, failure.reason) == ("UNAVAILABLE", "UPSTREAM_ERROR")
        assert failure.retry_after is not None


@pytest.mark.parametrize("kind", [pytest.param("whole", marks=LONG), "grpc"])
async def test_a_login_that_expires_shows_in_health_until_it_is_accepted_again(
    stage: Stage, kind: str
) -> None:
    async with httpx.AsyncClient(base_url=stage.apis.url) as client:
        assert (await client.get("/health")).json()["status"] == "ok"
        stage.engine.simulator.login_accepted = False
        try:
            failure = await stage.apis.ask(kind, "Hello?")
        finally:
            stage.engine.simulator.login_accepted = True
        assert isinstance(failure, Failure)
        assert failure.reason.lower() == "claude_not_logged_in"
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "not_logged_in")
        assert health.json()["logged_in"] is False
        assert "bridge login" in health.json()["detail"]
        assert await stage.apis.ask(kind, sim(text="again")) == "again"
        health = await client.get("/health")
        assert (health.status_code, health.json()["detail"]) == (200, "")


async def test_a_login_while_the_bridge_runs_needs_no_restart(tmp_path: Path) -> None:
    async with Simulator(pace_ms=0) as simulator:
        environment = hermetic_environment(os.environ, tmp_path, simulator.base_url)
        del environment["CLAUDE_CODE_OAUTH_TOKEN"]
        launcher = Launcher(bundled_cli(), environment, tmp_path)
        log_path = tmp_path / "log.jsonl"
        options = EngineOptions(PoolLimits(1, 1, 0))
        log = SessionLog(log_path)
        changed = asyncio.Event()
        async with Engine(launcher, options, log, on_change=changed.set) as engine:
            running = RunningEngine(engine, simulator, log, log_path)
            assert engine.health().status == "not_logged_in"
            with pytest.raises(NotLoggedInError):
                await running.ask(user("Hello?"))
            await asyncio.to_thread(log_in, tmp_path)
            assert (await running.ask(user(sim(text="hello")))).text == "hello"
            assert engine.health().status == "ok"
            async with asyncio.timeout(PATIENCE):
                while engine.health().account != "Claude Max":
                    changed.clear()
                    await changed.wait()


async def test_a_login_by_the_cli_itself_is_one(tmp_path: Path) -> None:
    await asyncio.to_thread(log_in, tmp_path)
    environment = hermetic_environment(os.environ, tmp_path, "http://127.0.0.1:9")
    del environment["CLAUDE_CODE_OAUTH_TOKEN"]
    # It is there to be billed instead, if the login were not seen.
    environment["ANTHROPIC_API_KEY"] = "k"
    launcher = Launcher(bundled_cli(), environment, tmp_path)
    async with Engine(launcher, EngineOptions(PoolLimits(1, 1, 0)), SessionLog(None)) as engine:
        health = engine.health()
        assert (health.status, health.logged_in, health.account) == ("ok", True, "Claude Max")


async def test_another_account_is_not_stopped_for_the_last_ones_extra_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_limits, "ACCOUNT_LOOK_SECONDS", 0.2)
    async with Simulator(pace_ms=0) as simulator:
        await asyncio.to_thread(log_in, tmp_path, "first")
        environment = hermetic_environment(os.environ, tmp_path, simulator.base_url)
        del environment["CLAUDE_CODE_OAUTH_TOKEN"]
        launcher = Launcher(bundled_cli(), environment, tmp_path)
        log = SessionLog(tmp_path / "log.jsonl")
        options = EngineOptions(PoolLimits(1, 1, 0), stop_before_overage=True)
        changed = asyncio.Event()
        async with Engine(launcher, options, log, on_change=changed.set) as engine:
            running = RunningEngine(engine, simulator, log, tmp_path / "log.jsonl")
            spent = {
                "anthropic-ratelimit-unified-status": "rejected",
                "anthropic-ratelimit-unified-reset": str(int(time.time()) + 3600),
                "anthropic-ratelimit-unified-representative-claim": "five_hour",
                "anthropic-ratelimit-unified-overage-status": "allowed",
                "anthropic-ratelimit-unified-overage-in-use": "true",
            }
            await running.ask(user(sim(text="paid", headers=spent)))

            async def reaches(status: str) -> None:
                async with asyncio.timeout(PATIENCE):
                    while engine.health().status != status:
                        changed.clear()
                        await changed.wait()

            await reaches("overage_ahead")
            with pytest.raises(PlanLimitError):
                await running.ask(user("Hello?"))
            await asyncio.to_thread(log_in, tmp_path, "second")
            assert (await running.ask(user(sim(text="hello")))).text == "hello"
            # Without a request too, since a balancer sends none to a server that is not ready.
            await running.ask(user(sim(text="paid", headers=spent)))
            await reaches("overage_ahead")
            await asyncio.to_thread(log_in, tmp_path, "third")
            await reaches("ok")
