"""What the API makes of an account, and of a model's name, over both APIs with the real CLI."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest

from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.engine.planning.models import ModelNames
from bridge.core.pool.policy import PoolLimits
from bridge.core.telemetry.session_log import SessionLog
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from bridge.simulator.proxy import Proxy
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.integration.simulator.test_login import HOSTS, login
from tests.support.certificates import certificate
from tests.support.front_ends import Apis, both_apis
from tests.support.harness import LONG, PATIENCE, RunningEngine, running_engine, sim
from tests.support.replies import Failure


@dataclass(frozen=True)
class Stage:
    """An engine with both APIs."""

    engine: RunningEngine
    apis: Apis


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            running_engine(
                tmp_path_factory.mktemp("accounts"),
                PoolLimits(2, 4, 1),
                models=ModelNames((("gpt4", "opuss"), ("mine", "Haiku"))),
            )
        )
        yield Stage(engine, await stack.enter_async_context(both_apis(engine.engine)))


@pytest.mark.parametrize("kind", ["whole", "grpc"])
@pytest.mark.parametrize(
    ("failure", "status", "reason", "words"),
    [
        ("expired", 503, "claude_not_logged_in", "bridge login"),
        pytest.param(
            "invalid_credentials", 503, "claude_not_logged_in", "bridge login", marks=LONG
        ),
        pytest.param("revoked", 503, "claude_not_logged_in", "bridge login", marks=LONG),
        ("oauth_not_allowed", 503, "claude_account_refused", "API key"),
        ("organization_disabled", 503, "claude_account_refused", "disabled"),
        ("claude_code_only", 503, "claude_account_refused", "system prompt"),
        ("billing", 429, "insufficient_quota", "billing"),
        ("credit", 429, "insufficient_quota", "billing"),
        ("extra_usage", 429, "usage_credits_required", "claude.ai"),
        ("long_context", 429, "usage_credits_required", "fewer"),
        ("usage_limit", 429, "rate_limit_exceeded", "usage limit"),
    ],
)
async def test_a_failure_only_the_operator_can_fix_is_reported_as_such_and_not_retried(
    stage: Stage, kind: str, failure: str, status: int, reason: str, words: str
) -> None:
    told = await stage.apis.ask(kind, sim(error=failure))
    assert isinstance(told, Failure), told
    over_grpc = {503: "FAILED_PRECONDITION", 429: "RESOURCE_EXHAUSTED"}
    assert told.status == (status if kind == "whole" else over_grpc[status])
    if kind == "whole" or status == 503:
        assert told.reason.lower() == reason
    assert words in told.message
    if failure != "usage_limit":
        assert told.retry_after is None
    async with httpx.AsyncClient(base_url=stage.apis.url) as client:
        health = (await client.get("/health")).json()
    if status == 503:
        assert (health["status"], health["logged_in"]) == ("not_logged_in", False)
        assert told.message in health["detail"]
    assert await stage.apis.ask(kind, sim(text="again")) == "again"
    assert stage.engine.engine.health().logged_in


async def _asked(stage: Stage, model: str) -> tuple[httpx.Response, str]:
    async with httpx.AsyncClient(base_url=stage.apis.url, timeout=PATIENCE) as client:
        over_http = await client.post(
            "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": sim(text="hi")}]},
        )
    async with grpc.aio.insecure_channel(stage.apis.target) as channel:
        call = pb_grpc.CompletionServiceStub(channel).Complete(
            pb.CompleteRequest(
                completion=pb.CompletionSpec(
                    model=model,
                    messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=sim(text="hi"))])],
                )
            ),
            timeout=PATIENCE,
        )
        try:
            over_grpc = [response async for response in call]
        except grpc.aio.AioRpcError as error:
            return over_http, f"{error.code().name}: {error.details()}"
    return over_http, over_grpc[0].event.started.model


@pytest.mark.parametrize(
    ("model", "meant"), [("opuss", "opus"), ("Sonet", "sonnet"), ("gpt4", "opus")]
)
async def test_a_misspelt_model_is_refused_with_the_name_that_is_meant(
    stage: Stage, model: str, meant: str
) -> None:
    over_http, over_grpc = await _asked(stage, model)
    assert over_http.status_code == 404
    assert over_http.json()["error"]["param"] == "model"
    assert f"Did you mean '{meant}'?" in over_http.json()["error"]["message"]
    assert over_grpc.startswith("NOT_FOUND: ")
    assert f"Did you mean '{meant}'?" in over_grpc


@pytest.mark.parametrize(("model", "word"), [("Opus", "opus"), ("MINE", "haiku"), ("o3", "")])
async def test_names_are_found_whatever_their_case_and_foreign_ones_go_to_the_default(
    stage: Stage, model: str, word: str
) -> None:
    over_http, over_grpc = await _asked(stage, model)
    assert over_http.status_code == 200, over_http.text
    assert over_http.json()["model"] == over_grpc
    assert word in over_grpc
    assert ("model" in over_http.headers.get("x-bridge-ignored-params", "")) is (not word)


async def test_an_alias_that_names_no_model_is_in_the_servers_log_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running_engine(
            tmp_path, PoolLimits(1, 1, 0), models=ModelNames((("gpt4", "opuss"),))
        ):
            pass
    assert "BRIDGE_MODEL_ALIASES: the target of gpt4=opuss is not a model on offer" in caplog.text
    assert "Did you mean 'opus'?" in caplog.text


@pytest.mark.parametrize("kind", ["whole", pytest.param("grpc", marks=LONG)])
async def test_a_login_whose_refresh_is_refused_is_one_that_is_not_accepted(
    tmp_path: Path, kind: str
) -> None:
    authority = certificate("authority")
    trusted, _ = authority.write(tmp_path, "authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(
        *certificate(HOSTS[0], also=HOSTS, signed_by=authority).write(tmp_path, "leaf")
    )
    login(tmp_path, seconds_left=5 * 3600)
    accounts = {"accounts": {"token-old": {"failure": "expired"}}}
    async with (
        Simulator(pace_ms=0, accounts=accounts) as simulator,
        Proxy(simulator.port, context) as proxy,
    ):
        environment = hermetic_environment(os.environ, tmp_path, simulator.base_url)
        del environment["CLAUDE_CODE_OAUTH_TOKEN"]
        environment |= {
            "HTTPS_PROXY": proxy.url,
            "NO_PROXY": "127.0.0.1",
            "NODE_EXTRA_CA_CERTS": str(trusted),
        }
        launcher = Launcher(bundled_cli(), environment, tmp_path)
        async with (
            Engine(launcher, EngineOptions(PoolLimits(1, 1, 0)), SessionLog(None)) as engine,
            both_apis(engine) as apis,
        ):
            # Once while it is refused, and once with what the CLI has kept of it.
            for _ in range(2):
                told = await apis.ask(kind, "Hello?")
                assert isinstance(told, Failure)
                assert told.status == (503 if kind == "whole" else "FAILED_PRECONDITION")
                assert told.reason.lower() == "claude_not_logged_in"
                assert told.retry_after is None
                assert "bridge login" in told.message
                health = engine.health()
                assert (health.status, health.logged_in) == ("not_logged_in", False)
        assert "platform.claude.com:443" in proxy.hosts
