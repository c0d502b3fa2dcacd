"""Processes that end as soon as they are up: restarted less and less often, and reported."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bridge.core.pool import backoff
from bridge.core.pool.policy import PoolLimits
from bridge.server import supervisor
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from bridge.v1 import pool_pb2, pool_pb2_grpc
from tests.support.claude.fake_process import fake_launcher
from tests.support.claude.faking import ONE, faked_engine, faking
from tests.support.harness import PATIENCE, RunningBridge

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True)
class Looping:
    """A bridge whose processes end as soon as they are up, until `mend`."""

    running: RunningBridge
    sound: Path

    def mend(self) -> None:
        self.sound.touch()

    def kill(self) -> None:
        """End every process there is."""
        for session in self.running.bridge.engine.pool.sessions():
            os.kill(session.pid, signal.SIGKILL)


@pytest.fixture
async def looping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_bridge: Callable[..., RunningBridge]
) -> Looping:
    sound = tmp_path / "sound"
    sound.touch()
    how = faking(tmp_path / "numbers", sound=str(sound), last="apply_flag_settings")
    monkeypatch.setattr(supervisor, "make_launcher", lambda *_: fake_launcher(**how))
    monkeypatch.setattr(backoff, "MAX_DELAY", 0.1)
    running = await asyncio.to_thread(start_bridge, pool_size=1, bridge_spares=0)
    sound.unlink()
    return Looping(running, sound)


async def test_both_apis_report_it_and_its_end(looping: Looping) -> None:
    async with grpc.aio.insecure_channel(looping.running.target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())

        async def told(status: Any) -> None:
            while (await asyncio.wait_for(watch.read(), PATIENCE)).status != status:
                pass

        await told(SERVING)
        looping.kill()
        await told(NOT_SERVING)
        # Until then the next one, which is up for a moment, may be taken for a sound one.
        starter = looping.running.bridge.engine.pool._starter
        await asyncio.to_thread(looping.running.wait_for_processes, lambda _: starter.looping)
        async with httpx.AsyncClient(base_url=looping.running.url, timeout=PATIENCE) as client:
            health = await client.get("/health")
            assert (health.status_code, health.json()["status"]) == (503, "unavailable")
            assert "in a row" in health.json()["detail"]
            pool = (
                await pool_pb2_grpc.PoolServiceStub(channel).GetPool(pool_pb2.GetPoolRequest())
            ).pool
            assert pool.status == pool_pb2.Pool.STATUS_UNAVAILABLE
            assert "in a row" in pool.detail

            body = {"messages": [{"role": "user", "content": "Hello?"}]}
            refused = await client.post("/v1/chat/completions", json=body)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "claude_process_error"
            assert int(refused.headers["retry-after"]) >= 1
            message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="Hello?")])
            call = pb_grpc.CompletionServiceStub(channel).Complete(
                pb.CompleteRequest(completion=pb.CompletionSpec(messages=[message])),
                timeout=PATIENCE,
            )
            assert await call.code() is grpc.StatusCode.UNAVAILABLE

            looping.mend()
            while (await client.post("/v1/chat/completions", json=body)).status_code != 200:
                pass
            await told(SERVING)
            async with asyncio.timeout(PATIENCE):
                # One that was started before may still end.
                while (await client.get("/health")).json()["detail"]:
                    pass
            assert (await client.get("/health")).json()["status"] == "ok"
        watch.cancel()


async def test_a_process_that_hangs_at_its_start_shows_in_the_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = tmp_path / "sound"
    sound.touch()
    how = {"sound": str(sound), "silent": ["get_settings"]}
    async with faked_engine(tmp_path, ONE, how=how) as engine:
        pool = engine.engine.pool
        assert engine.engine.health().status == "ok"
        sound.unlink()
        monkeypatch.setattr("bridge.core.pool.starts.SLOW_START_SECONDS", 0.2)
        # Its start never fails.
        monkeypatch.setattr("bridge.core.claude.session.BOOT_TIMEOUT", 1e6)
        os.kill(engine.pids[0], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while engine.engine.health().status == "ok":
                await pool.changed()
        health = engine.engine.health()
        assert health.status == "unavailable"
        assert "has not answered within" in health.detail


async def test_processes_are_started_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delay = 0.3
    monkeypatch.setattr(backoff, "MAX_DELAY", delay)
    sound = tmp_path / "sound"
    sound.touch()
    how = {"sound": str(sound), "last": "apply_flag_settings"}
    async with faked_engine(tmp_path, ONE, how=how) as engine:
        pool = engine.engine.pool
        sound.unlink()
        started: list[float] = []
        starter = pool._starter
        spawn = starter._spawn

        def noted(*arguments: Any) -> Any:
            started.append(time.monotonic())
            return spawn(*arguments)

        monkeypatch.setattr(starter, "_spawn", noted)
        os.kill(engine.pids[0], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while len(started) < 5:
                await pool.changed()
        gaps = [after - before for before, after in pairwise(started)]
        # One follows at once, and each of the others only after a while.
        assert all(gap >= delay for gap in gaps[1:])
        assert pool.trouble
        assert not pool.usable


async def test_a_sound_process_keeps_serving_while_others_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "MAX_DELAY", 0.1)
    how = {"sound": [0], "last": "apply_flag_settings"}
    async with faked_engine(tmp_path, PoolLimits(1, 2, 1), how=how) as engine:
        pool = engine.engine.pool
        assert (await engine.ask()).text == "Half and half."
        async with asyncio.timeout(PATIENCE):
            # It is sound once its answer is over and its conversation wiped.
            while not (pool.trouble and pool.usable):
                await pool.changed()
        health = engine.engine.health()
        assert (health.status, health.serving) == ("ok", True)
        assert "in a row" in health.detail
        assert (await engine.ask()).text == "Half and half."
        # An answer of the old one is no proof that the new ones are sound.
        assert pool.trouble
