"""`bridge doctor --live` by the real CLI: accounts that accept everything, little, nothing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.contract import Health, HealthStatus, Usage
from bridge.doctor.findings import Mark
from bridge.doctor.live import Outcome, Proof, Result, prove
from bridge.doctor.proving import REPORT_NAME, cost_finding, question, result_finding
from bridge.doctor.report import redacted, report_of
from bridge.doctor.trials import EXACT, TRIALS
from bridge.server.refusals import FILE_NAME, KEPT_SECONDS, read_refusals, write_refusals
from bridge.simulator import Simulator
from tests.support.harness import LONG, PATIENCE, LoopThread, running_engine
from tests.support.terminal import at_terminal

IDS = [trial.id for trial in TRIALS]
MAIL, KEY = "someone@example.com", "sk-ant-oat01-AAAABBBBCCCC"


async def proved(folder: Path, account: Any, **options: Any) -> tuple[Proof, dict[str, Result]]:
    async with running_engine(folder, system_prompt="", **options) as running:
        running.simulator.accounts.load({"accounts": {"simulated": account}})
        proof = Proof()
        async for _ in prove(running.engine, proof):
            pass
    return proof, {result.trial: result for result in proof.results}


@pytest.fixture(scope="module")
async def of_little(tmp_path_factory: pytest.TempPathFactory) -> tuple[Proof, dict[str, Result]]:
    """What is proved of an account that accepts little."""
    return await proved(tmp_path_factory.mktemp("little"), "little")


@pytest.mark.anyio
async def test_of_an_account_that_accepts_everything(tmp_path: Path) -> None:
    proof, found = await proved(tmp_path, "everything")
    assert list(found)[: len(IDS)] == IDS
    assert 10 <= len(found) <= 13
    for trial in ("system", "json", "results", "one call", "effort", "stop"):
        assert found[trial].outcome is Outcome.ACCEPTED, found[trial]
    # What the default model's own rules refuse, whatever the account.
    assert found["sampling"].outcome is Outcome.DONE_WITHOUT
    assert "tool_choice" in found["tools"].detail
    assert found["continue"].session == "continued"
    assert found["replay"].session != "continued"
    for trial in ("continue", "replay"):
        assert found[trial].outcome is Outcome.ACCEPTED
        assert found[trial].usage.cache_read_tokens > 4_000
    models = [result.model for name, result in found.items() if name.startswith("model ")]
    assert models
    assert models == [name.removeprefix("model ") for name in found if name.startswith("model ")]
    assert proof.refused == {found["system"].model: frozenset({"temperature", "tool_choice"})}
    assert proof.limits is not None
    assert proof.cost_usd is not None
    assert proof.cost_usd > 0
    assert proof.tokens == sum(result.usage.total_tokens for result in proof.results)


@pytest.mark.anyio
async def test_of_an_account_that_accepts_little(
    of_little: tuple[Proof, dict[str, Result]],
) -> None:
    proof, found = of_little
    assert found["system"].outcome is Outcome.ACCEPTED
    assert found["json"].outcome is Outcome.DONE_WITHOUT
    assert found["json"].detail == "refused: output_config"
    for trial, field in (("one call", "disable_parallel_tool_use"), ("stop", "stop_sequences")):
        assert found[trial].outcome is Outcome.REFUSED
        assert field in found[trial].detail
    (refused,) = proof.refused.values()
    assert refused == {"output_config", "temperature", "tool_choice"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "account", ["nothing", pytest.param({"failure": "revoked"}, id="revoked", marks=LONG)]
)
async def test_of_an_account_that_accepts_nothing_one_request_is_made(
    tmp_path: Path, account: Any
) -> None:
    proof, found = await proved(tmp_path, account)
    assert list(found) == ["system"]
    assert found["system"].outcome in (Outcome.REFUSED, Outcome.FAILED)
    assert result_finding(found["system"], 1.0).mark is Mark.BAD
    assert proof.refused == {}
    assert proof.tokens == 0


@pytest.mark.anyio
async def test_what_was_refused_is_not_tried_again_after_a_start(
    tmp_path: Path, of_little: tuple[Proof, dict[str, Result]]
) -> None:
    proof, _ = of_little
    write_refusals(tmp_path, proof.refused)
    known = read_refusals(tmp_path)
    assert known == proof.refused
    async with running_engine(tmp_path, system_prompt="", known_refusals=known) as running:
        running.simulator.accounts.load({"accounts": {"simulated": "little"}})
        requests = {trial.id: trial.request({}) for trial in TRIALS}
        for trial in ("json", "tools", "sampling"):
            asked = requests[trial]
            assert asked is not None
            async for _ in running.engine.complete(asked):
                pass
        assert {e.status for e in running.simulator.ledger.exchanges()} == {200}


def test_refusals_are_kept_for_a_month_and_privately(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert read_refusals(folder) == {}
    write_refusals(folder, {"m": frozenset({"temperature"}), "n": frozenset()}, now=1000.0)
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert read_refusals(folder, 1001.0) == {"m": {"temperature"}}
    assert read_refusals(folder, 1000.0 + KEPT_SECONDS) == {}
    for broken in ("{", "[]", '{"found_at": 1, "refused": 3}', "\xff"):
        (folder / FILE_NAME).write_bytes(broken.encode("latin-1"))
        assert read_refusals(folder, 1001.0) == {}


@pytest.mark.parametrize(
    "secret",
    [
        MAIL,
        KEY,
        "Bearer abcdef",
        "123e4567-e89b-12d3-a456-426614174000",
        "org_01AbCdEf",
        "req_011CSHoEeqs5C35K2UUqR7Fy",
        "/home/someone/.claude/settings.json",
        "192.168.10.4",
        "a1b2c3d4e5f6a7b8c9d0e1f2a3b4",
    ],
)
def test_the_report_has_no_secrets(secret: str) -> None:
    said = redacted(f"The API refused ({secret}): {secret}, for claude-haiku-4-5-20251001.")
    assert secret not in said
    assert "claude-haiku-4-5-20251001" in said
    result = Result("system", "s", Outcome.FAILED, secret, f"no: {secret}")
    health = Health(HealthStatus.OK, True, f"login of {secret}", "1", subscription=secret)
    report = report_of(Proof([result], {secret: frozenset()}), health, [secret], day="2026-01-01")
    assert secret not in json.dumps(report)


def test_the_home_folder_is_not_named() -> None:
    assert redacted("at /srv/me/x", Path("/srv/me")) == "at ~/x"
    assert len(redacted("word " * 1000)) < 400


def test_the_cost_is_printed_before_and_after() -> None:
    assert "about ten requests with short answers" in question("ANTHROPIC_API_KEY")
    assert "ANTHROPIC_API_KEY" in question("ANTHROPIC_API_KEY")
    result = Result("system", "s", Outcome.ACCEPTED, usage=Usage(10, 0, 0, 5))
    assert cost_finding(Proof([result], cost_usd=0.0123)).found.startswith(
        "1 requests, 15 tokens; $0.0123"
    )
    assert "$" not in cost_finding(Proof([result])).found


@contextmanager
def simulated(loop: LoopThread, account: Any) -> Iterator[Simulator]:
    simulator = Simulator(pace_ms=0, accounts={"accounts": {KEY: account}})
    loop.call(simulator.start())
    try:
        yield simulator
    finally:
        loop.call(simulator.aclose())


def environment(home: Path, simulator: Simulator) -> dict[str, str]:
    state = home / "state"
    state.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "BRIDGE_STATE_DIR": str(state),
        "ANTHROPIC_BASE_URL": simulator.base_url,
        "CLAUDE_CODE_OAUTH_TOKEN": KEY,
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "PORT": "0",
        "GRPC_PORT": "0",
    }


def test_the_command_writes_a_report_and_what_it_has_learned(
    tmp_path: Path, loop_thread: LoopThread
) -> None:
    with simulated(loop_thread, "little") as simulator:
        result = subprocess.run(
            [sys.executable, "-m", "bridge", "doctor", "--live", "--yes", "--json"],
            env=environment(tmp_path, simulator),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert result.returncode == 0, result.stdout + result.stderr
    checks = {check["check"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["system"]["mark"] == "good"
    assert checks["stop"]["mark"] == "warning"
    assert checks["cost"]["facts"]["cost_usd"] > 0
    text = Path(checks["report"]["facts"]["path"]).read_text()
    assert checks["report"]["facts"]["path"].endswith(REPORT_NAME)
    report = json.loads(text)
    outcomes = {trial["trial"]: trial["outcome"] for trial in report["trials"]}
    assert list(outcomes)[: len(IDS)] == IDS
    assert outcomes["json"] == Outcome.DONE_WITHOUT
    for secret in (KEY, str(tmp_path), "127.0.0.1", "says nothing of use", EXACT):
        assert secret not in text
    (refused,) = read_refusals(tmp_path / "state").values()
    assert "output_config" in refused


def test_without_consent_nothing_is_asked(tmp_path: Path, loop_thread: LoopThread) -> None:
    with simulated(loop_thread, "everything") as simulator:
        env = environment(tmp_path, simulator)
        for stdin in ("", "y\n"):
            result = subprocess.run(
                [sys.executable, "-m", "bridge", "doctor", "--live"],
                env=env,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert (result.returncode, result.stdout) == (1, "")
            assert "--yes" in result.stderr
        with at_terminal("doctor", "--live", **env) as terminal:
            terminal.wait_for(r"about ten requests with short answers.*(.|\n)*\[y/N\]")
            terminal.type("n")
            assert terminal.end() == 0
        assert list(simulator.ledger.exchanges()) == []
        assert not (tmp_path / "state" / REPORT_NAME).exists()
