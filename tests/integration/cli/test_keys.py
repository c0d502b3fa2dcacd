"""`bridge keys`, and the keys that the other commands send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.core.access.authentication import Access
from bridge.core.access.keys import KeyLimits, KeyScope, parse_given
from bridge.http_server.context import HttpSettings
from tests.support.fakes import FakeService
from tests.support.http.serving import serving


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def run(state: Path, *arguments: str, **env: str) -> Result:
    return CliRunner().invoke(
        app, ("keys", *arguments), env={"BRIDGE_STATE_DIR": str(state), **env}
    )


def test_a_key_is_made_listed_and_revoked(state: Path) -> None:
    added = run(state, "add", "laptop", "--mine")
    assert added.exit_code == 0
    secret = added.stdout.strip()
    assert secret.startswith("sk-bridge-")
    assert added.stdout == f"{secret}\n"
    assert "not shown again" in added.stderr
    access = Access(file=state / "keys.json")
    assert access.authenticate(secret).name == "laptop"
    listed = run(state, "list")
    assert listed.stdout.split()[:2] == ["laptop", "complete"]
    assert run(state, "revoke", "laptop").exit_code == 0
    access.refresh()
    assert "laptop" not in access.keys


def test_scope_and_limits(state: Path) -> None:
    options = ["--admin", "--concurrent", "2", "--per-minute", "30", "--tokens-per-day", "1000"]
    assert (
        run(state, "add", "op", "--mine", *options, "--model", "opus", "--model", "haiku").exit_code
        == 0
    )
    (key,) = Access(file=state / "keys.json").keys.values()
    assert key.scope is KeyScope.ADMIN
    assert key.limits == KeyLimits(2, 30, 1000, ("opus", "haiku"))
    (line,) = run(state, "list").stdout.splitlines()
    assert line.endswith(
        "2 concurrent, 30 per minute, 1000 tokens per day, model opus, model haiku"
    )


def test_budgets(state: Path) -> None:
    options = ["--mine", "--tokens-per-month", "9000", "--usd-per-day", "0.5"]
    options += ["--usd-per-month", "5", "--warn-at", "50", "--shadow"]
    assert run(state, "add", "anna", *options).exit_code == 0
    (key,) = Access(file=state / "keys.json").keys.values()
    assert key.limits == KeyLimits(
        tokens_per_month=9000, usd_per_day=0.5, usd_per_month=5, warn_at=50, shadow=True
    )
    (line,) = run(state, "list").stdout.splitlines()
    assert line.endswith("9000 tokens per month, 0.5 USD per day, 5.0 USD per month, shadow")
    wrong = run(state, "add", "bob", "--mine", "--usd-per-day", "0")
    assert wrong.exit_code == 1
    assert "usd_per_day must be a number above 0" in wrong.stderr


def test_no_secret_is_ever_listed(state: Path) -> None:
    secret = run(state, "add", "laptop", "--mine", "--concurrent", "1").stdout.strip()
    (digest,) = (key.digest for key in Access(file=state / "keys.json").keys.values())
    for options in ((), ("--json",)):
        listed = run(state, "list", *options)
        assert "laptop" in listed.stdout
        for hidden in (secret, secret.removeprefix("sk-bridge-"), digest):
            assert hidden not in listed.output
    (entry,) = json.loads(run(state, "list", "--json").stdout)
    assert entry["name"] == "laptop"
    assert entry["concurrent"] == 1
    assert json.loads(run(state.parent / "other", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (("add", "laptop", "--mine"), {}, "revoke it first"),
        (("add", "no good", "--mine"), {}, "letters"),
        (
            ("add", "given", "--mine"),
            {"BRIDGE_API_KEYS": "given=a-secret-long-enough"},
            "another name",
        ),
        (("revoke", "nobody"), {}, "bridge keys list"),
        (("list",), {"BRIDGE_KEYS_FILE": "/dev/null/keys.json"}, "cannot be read"),
    ],
)
def test_an_error_is_one_line_with_the_remedy(
    state: Path, arguments: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    run(state, "add", "laptop", "--mine")
    result = run(state, *arguments, **env)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("bridge: ")
    assert said in line


def test_revoking_the_last_key_prints_the_consequence(state: Path) -> None:
    run(state, "add", "a", "--mine")
    run(state, "add", "b", "--mine")
    assert run(state, "revoke", "a").stderr == ""
    assert "refuses every request" in run(state, "revoke", "b").stderr


def test_another_file_can_be_named(state: Path) -> None:
    file = state.parent / "elsewhere" / "bridge-keys"
    run(state, "add", "laptop", "--mine", BRIDGE_KEYS_FILE=str(file))
    assert list(Access(file=file).keys) == ["laptop"]
    assert not state.exists()


SECRET = "a-secret-long-enough"


def test_chat_and_models_send_the_key_they_are_given() -> None:
    access = Access(parse_given(f"laptop={SECRET}"))
    with serving(FakeService(), HttpSettings(), access) as base_url:
        url = base_url.removesuffix("/v1")
        runner = CliRunner()
        for command in (["chat", "hi"], ["models"]):
            given = [*command, "--url", url]
            assert runner.invoke(app, [*given, "--api-key", SECRET]).exit_code == 0
            assert runner.invoke(app, given, env={"BRIDGE_API_KEY": SECRET}).exit_code == 0
            for wrong in ("wrong", "", "wr\u00f6ng"):
                refused = runner.invoke(app, given, env={"BRIDGE_API_KEY": wrong})
                assert refused.exit_code == 1
                (line,) = refused.stderr.splitlines()
                assert "key" in line
                assert not wrong or wrong not in line
