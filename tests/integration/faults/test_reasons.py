"""The cause that Claude Code names reaches those who can help: logs, health and callers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.claude.processes.process import ProcessGoneError
from bridge.core.claude.session import Session
from bridge.core.contract import CompletionRequest, ProcessFailedError, UnavailableError
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.pool.policy import PoolLimits
from bridge.core.telemetry import Observers, ServerLog, SessionLog
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from tests.support.certificates import certificate
from tests.support.claude.faking import faked_engine
from tests.support.front_ends import both_apis
from tests.support.harness import sim, user
from tests.support.replies import Failure

NOWHERE = "http://127.0.0.1:9"


def _corrupt(home: Path, environment: dict[str, str]) -> None:
    (home / ".claude").mkdir()
    (home / ".claude" / ".claude.json").write_text("{broken")


def _no_temporary_folder(home: Path, environment: dict[str, str]) -> None:
    # No user can write there, not even root.
    environment["TMPDIR"] = "/proc"


@pytest.mark.parametrize(
    ("prepare", "part"), [(_corrupt, ".claude.json"), (_no_temporary_folder, "TMPDIR")]
)
async def test_a_process_that_does_not_start_is_reported_with_its_cause(
    tmp_path: Path, prepare: Callable[[Path, dict[str, str]], None], part: str
) -> None:
    environment = hermetic_environment(os.environ, tmp_path, NOWHERE)
    prepare(tmp_path, environment)
    with pytest.raises(ProcessGoneError) as caught:
        await Session.spawn(Launcher(bundled_cli(), environment, tmp_path))
    assert part in caught.value.cause
    assert str(tmp_path) not in caught.value.cause
    assert "Output: " in caught.value.for_log


async def test_the_cause_is_in_the_log_and_in_health_once_processes_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = "Configuration error in /home/me/.claude.json: JSON Parse error\n"
    how = {"die": ["get_settings"], "sound": [0], "turn": [{"die": True}], "well": [{"die": True}]}
    with caplog.at_level(logging.ERROR):
        async with faked_engine(tmp_path, how=how | {"last_words": words}) as faked:
            # The one that was sound is lost with its turn, and no other comes up.
            with pytest.raises(ProcessFailedError, match="not valid JSON"):
                await faked.ask()
            while "not valid JSON" not in faked.engine.health().detail:
                await faked.engine.pool.changed()
            assert "/home/me" not in faked.engine.health().detail
    assert "could not be started: ProcessGoneError: Claude Code's configuration file" in caplog.text
    assert "Output: Configuration error in /home/me/.claude.json" in caplog.text


@asynccontextmanager
async def _tls_server(folder: Path, host: str) -> AsyncIterator[tuple[str, str]]:
    authority = certificate("authority")
    trusted, _ = authority.write(folder, "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        *certificate(host, also=(host,), signed_by=authority).write(folder, "leaf")
    )

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}", str(trusted)


@pytest.mark.parametrize(
    ("host", "trusts", "part"),
    [("localhost", False, "NODE_EXTRA_CA_CERTS"), ("elsewhere.example", True, "another host")],
)
async def test_an_untrusted_certificate_is_reported_to_every_caller(
    tmp_path: Path, host: str, part: str, *, trusts: bool
) -> None:
    async with _tls_server(tmp_path, host) as (url, authority):
        environment = hermetic_environment(os.environ, tmp_path, url)
        if trusts:
            environment["NODE_EXTRA_CA_CERTS"] = authority
        log_path = tmp_path / "log.jsonl"
        log = SessionLog(log_path)
        launcher = Launcher(bundled_cli(), environment, tmp_path)
        async with (
            Engine(launcher, EngineOptions(PoolLimits(1, 1, 0)), log) as engine,
            both_apis(engine) as apis,
        ):
            over_http = await apis.ask("whole", "Hello?")
            over_grpc = await apis.ask("grpc", "Hello?")
        log.flush()
        assert isinstance(over_http, Failure)
        assert isinstance(over_grpc, Failure)
        assert (over_http.status, over_http.reason) == (503, "claude_misconfigured")
        assert (over_grpc.status, over_grpc.reason) == ("UNAVAILABLE", "CLAUDE_MISCONFIGURED")
        assert over_http.retry_after is over_grpc.retry_after is None
        assert part in over_http.message
        assert over_http.message == over_grpc.message
        causes = [json.loads(line)["error_cause"] for line in log_path.read_text().splitlines()]
        assert all("error=server_error" in cause for cause in causes), causes
        log.close()


async def test_the_names_of_a_failure_are_logged_and_its_words_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = sim(error={"status": 500, "message": "secret words"})
    request = CompletionRequest(messages=(user(words),), request_id="req_1")
    log = SessionLog(tmp_path / "log.jsonl")
    with caplog.at_level(logging.WARNING):
        async with Simulator(pace_ms=0) as simulator:
            environment = hermetic_environment(os.environ, tmp_path, simulator.base_url)
            launcher = Launcher(bundled_cli(), environment, tmp_path)
            options = EngineOptions(PoolLimits(1, 1, 0))
            async with Engine(launcher, options, Observers((log, ServerLog()))) as engine:
                with pytest.raises(UnavailableError):
                    await anext(engine.complete(request))
    log.close()
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    names = "status=500 error=server_error type=api_error ended=api_error"
    assert json.loads(line)["error_cause"] == names
    assert f'error=UPSTREAM_ERROR error_cause="{names}"' in caplog.text
    assert "secret words" not in caplog.text
