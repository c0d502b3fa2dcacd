"""`bridge usage`: what it reads from the ledger's file."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.core.contract import UNKNOWN_COST, CompletionRequest, Cost, SessionSource, Usage
from bridge.core.ledger import LEDGER_FILE, Ledger
from bridge.core.telemetry import RequestRecord
from tests.support.harness import LONG, PATIENCE, RunningBridge


def record(id: str, caller: str, cost: Cost, *, billed: bool = False) -> RequestRecord:
    made = RequestRecord(CompletionRequest((), request_id=id, caller=caller), 0.0)
    made.leased(SessionSource.WARM, 0.0)
    made.ended(1.0, time.time())
    made.spent, made.cost, made.billed = Usage(1000, 2, 3, 4), cost, billed
    return made


@pytest.fixture
def state(tmp_path: Path) -> Path:
    async def fill() -> None:
        ledger = Ledger(tmp_path / LEDGER_FILE)
        for each in (
            record("1", "anna", Cost(0.25, {"opus-9": 0.25})),
            record("2", "anna", Cost(0.5, {"opus-9": 0.5}), billed=True),
            record("3", "bob", UNKNOWN_COST),
        ):
            ledger.booked(each)
        await ledger.aclose()

    asyncio.run(fill())
    return tmp_path


def run(state: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ("usage", *arguments), env={"BRIDGE_STATE_DIR": str(state)})


def test_a_table_has_a_line_for_each_key_and_says_what_is_not_billed(state: Path) -> None:
    lines = run(state, "--by", "key").stdout.splitlines()
    assert lines[0].split()[0] == "key"
    assert lines[1].split() == ["anna", "2", "2,000", "4", "6", "8", "$0.7500"]
    assert lines[2].split()[:2] == ["bob", "1"]
    assert lines[3].split() == ["total", "3", "3,000", "6", "9", "12", "$0.7500"]
    assert lines[4] == "Billed: $0.50. The rest is a list price, not billed."
    assert "unknown cost" in lines[5]
    assert lines[5].endswith(": 1.")


def test_json_and_csv_have_all_fields(state: Path) -> None:
    anna, bob = json.loads(run(state, "--by", "key", "--json").stdout)
    assert anna == {
        "key": "anna",
        "requests": 2,
        "input_tokens": 2000,
        "cache_read_tokens": 4,
        "cache_write_tokens": 6,
        "output_tokens": 8,
        "cost_usd": 0.75,
        "billed_usd": 0.5,
        "unknown_costs": 0,
    }
    assert bob["unknown_costs"] == 1
    first, _ = csv.DictReader(run(state, "--by", "key", "--csv").stdout.splitlines())
    assert first == {name: str(value) for name, value in anna.items()}


def test_a_period_starts_with_since(state: Path) -> None:
    assert len(json.loads(run(state, "--since", "1d", "--json").stdout)) == 1
    assert json.loads(run(state, "--since", "2999-01-01", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--by", "moon"), "choose day, key, model, payer"), (("--since", "noon"), "--since noon")],
)
def test_a_wrong_option_is_named_with_the_remedy(
    state: Path, arguments: tuple[str, str], said: str
) -> None:
    result = run(state, *arguments)
    assert result.exit_code == 1
    assert said in result.stderr


def test_without_a_ledger_it_says_so(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No usage in" in result.stderr
    assert "--url URL" in result.stderr


def test_a_broken_ledger_is_an_error(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_text("no database, but a text that is long enough" * 9)
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr


@LONG
def test_the_replicas_of_a_fleet_are_summed(
    tmp_path: Path, start_bridge: Callable[..., RunningBridge]
) -> None:
    one, other = (start_bridge(bridge_replica=name) for name in ("one", "other"))
    for bridge, times in ((one, 2), (other, 1)):
        body = {"model": "default", "messages": [{"role": "user", "content": "Hi."}]}
        for _ in range(times):
            url = f"{bridge.url}/v1/chat/completions"
            assert httpx.post(url, json=body, timeout=PATIENCE, trust_env=False).is_success
        bridge.call(bridge.bridge.service.booked)

    def summed(*urls: str) -> Result:
        return run(tmp_path, "--json", *(word for url in urls for word in ("--url", url)))

    alone = [json.loads(summed(bridge.url).stdout) for bridge in (one, other)]
    (row,) = json.loads(summed(one.url, f"{other.url}/v1").stdout)
    assert [len(rows) for rows in alone] == [1, 1]
    assert row == {
        name: value if name == "day" else pytest.approx(value + alone[1][0][name])
        for name, value in alone[0][0].items()
    }
    assert row["requests"] == 3

    # A balancer's address, which would count one server twice.
    result = summed(one.url, f"{one.url}/")
    assert result.exit_code == 1
    assert "are the same server, one" in result.stderr
    other.stop()
    result = summed(one.url, other.url)
    assert result.exit_code == 1
    assert f"No answer from {other.url}" in result.stderr
