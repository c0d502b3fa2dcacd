"""`bridge keys`, and the keys that the other commands send."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.core.access.authentication import Access
from bridge.core.access.keys import (
    KeyFile,
    KeyLimits,
    KeyOwner,
    KeyRing,
    KeyScope,
    KeyStoreError,
    KeyUse,
    parse_given,
)
from bridge.core.contract.errors import AuthenticationError
from bridge.core.contract.states import PayerKind
from bridge.core.payers.payer import Payer, PayerFile
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
    access = Access(store=KeyFile(state / "keys.json"))
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
    (key,) = Access(store=KeyFile(state / "keys.json")).keys.values()
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
    (key,) = Access(store=KeyFile(state / "keys.json")).keys.values()
    assert key.limits == KeyLimits(
        tokens_per_month=9000, usd_per_day=0.5, usd_per_month=5, warn_at=50, shadow=True
    )
    (line,) = run(state, "list").stdout.splitlines()
    assert line.endswith("9000 tokens per month, 0.5 USD per day, 5.0 USD per month, shadow")
    wrong = run(state, "add", "bob", "--mine", "--usd-per-day", "0")
    assert wrong.exit_code == 1
    assert "usd_per_day must be a number above 0" in wrong.stderr


def test_models_are_named_one_by_one_or_with_commas(state: Path) -> None:
    run(state, "add", "a", "--mine", "--model", "opus,haiku", "--model", "fable")
    run(state, "add", "b", "--mine")
    run(state, "edit", "b", "--model", "opus, haiku", "--model", "fable")
    keys = KeyFile(state / "keys.json").read()
    assert [key.limits.models for key in keys] == [("opus", "haiku", "fable")] * 2


def test_the_secret_of_a_key_that_was_created_is_printed_whatever_follows(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = KeyFile.ring

    def ring(file: KeyFile) -> KeyRing:
        if file.signature() is not None:
            # As if another process had revoked it already, or the disk had failed.
            raise KeyStoreError("The key file cannot be read.")
        return read(file)

    monkeypatch.setattr(KeyFile, "ring", ring)
    added = run(state, "add", "laptop", "--mine")
    assert added.exit_code == 0
    assert added.stdout.startswith("sk-bridge-")


def test_an_edit_changes_what_it_names_and_nothing_else(state: Path) -> None:
    secret = run(
        state,
        "add",
        "phone",
        "--mine",
        "--concurrent",
        "2",
        "--usd-per-day",
        "5",
        "--model",
        "opus",
    ).stdout.strip()
    store = KeyFile(state / "keys.json")
    (before,) = store.read()
    edited = run(
        state, "edit", "phone", "--per-minute", "30", "--concurrent", "none", "--model", "none",
        "--warn-at", "50", "--shadow", "--admin",
    )  # fmt: skip
    assert edited.exit_code == 0, edited.stderr
    assert "yours, 30 per minute, 5.0 USD per day, shadow" in edited.stdout
    (after,) = store.read()
    limits = KeyLimits(per_minute=30, usd_per_day=5, warn_at=50, shadow=True)
    assert after == replace(before, limits=limits, scope=KeyScope.ADMIN)
    assert Access(store=store).authenticate(secret).name == "phone"
    for option in ("--per-minute", "--usd-per-day"):
        assert run(state, "edit", "phone", option, "none").exit_code == 0
    assert (
        run(state, "edit", "phone", "--no-shadow", "--no-admin", "--warn-at", "80").exit_code == 0
    )
    assert store.read() == (replace(before, limits=KeyLimits()),)


def test_whose_a_key_is_can_be_changed(state: Path, tmp_path: Path) -> None:
    PayerFile(state).add(Payer("team", PayerKind.BEDROCK))
    PayerFile(state).add(Payer("cloud", PayerKind.VERTEX))
    store = KeyFile(state / "keys.json")
    run(state, "add", "phone", "--mine")
    for options, use in [
        (("--payer", "team,cloud"), KeyUse(KeyOwner.MINE, ("team", "cloud"))),
        (("--not-mine",), KeyUse(KeyOwner.OTHER, ("team", "cloud"))),
        (("--payer", "team", "--overflow"), KeyUse(KeyOwner.OTHER, ("team",), overflow=True)),
        (("--mine", "--payer", "none", "--no-overflow"), KeyUse(KeyOwner.MINE)),
    ]:
        assert run(state, "edit", "phone", *options).exit_code == 0
        assert store.ring().get("phone").use == use
    refused = run(state, "edit", "phone", "--not-mine")
    assert refused.exit_code == 1
    assert "Say whose key it is" in refused.stderr
    assert store.ring().get("phone").use == KeyUse(KeyOwner.MINE)


def test_a_new_secret(state: Path) -> None:
    store = KeyFile(state / "keys.json")
    old = run(state, "add", "phone", "--mine", "--concurrent", "2").stdout.strip()
    rotated = run(state, "rotate", "phone")
    new = rotated.stdout.strip()
    assert rotated.stdout == f"{new}\n"
    assert new.startswith("sk-bridge-")
    assert "The old one is valid until" in rotated.stderr
    assert "old secret valid until" in run(state, "list").stdout
    access = Access(store=store)
    for secret in (old, new):
        assert access.limits_of(access.authenticate(secret).name) == KeyLimits(2)
    newest = run(state, "rotate", "phone", "--overlap", "0")
    assert "The old one is refused now" in newest.stderr
    for secret in (old, new):
        with pytest.raises(AuthenticationError):
            access.authenticate(secret)
    access.authenticate(newest.stdout.strip())
    assert "old secret" not in run(state, "list").stdout


def test_expiry_and_last_use_are_listed(state: Path) -> None:
    assert run(state, "add", "phone", "--mine", "--expires", "90d").exit_code == 0
    line = run(state, "list").stdout
    assert "never used" in line
    assert "yours, expires 20" in line
    store = KeyFile(state / "keys.json")
    key = store.ring().get("phone")
    asyncio.run(store.note_used({key.id: 1_800_000_000}))
    store.edit("phone", lambda key: replace(key, expires_at=1_000_000_000))
    line = run(state, "list").stdout
    assert "used 2027-01-15 08:00" in line
    assert "expired 2001-09-09 01:46 UTC" in line
    (entry,) = json.loads(run(state, "list", "--json").stdout)
    assert (entry["expires_at"], entry["last_used_at"]) == (1_000_000_000, 1_800_000_000)
    assert run(state, "edit", "phone", "--expires", "2999-12-31").exit_code == 0
    assert "expires 3000-01-01 00:00 UTC" in run(state, "list").stdout
    assert run(state, "edit", "phone", "--expires", "none").exit_code == 0
    assert store.ring().get("phone").expires_at is None


def test_a_name_that_is_used_again_is_told_apart(state: Path) -> None:
    run(state, "add", "phone", "--mine")
    run(state, "revoke", "phone")
    again = run(state, "add", "phone", "--mine")
    assert "in logs, metrics and usage, this one is phone#2" in again.stderr
    assert run(state, "list").stdout.strip().endswith("yours, counted as phone#2")
    (entry,) = json.loads(run(state, "list", "--json").stdout)
    assert (entry["name"], entry["caller"]) == ("phone", "phone#2")
    assert run(state, "revoke", "phone").exit_code == 0


def test_no_secret_is_ever_listed(state: Path) -> None:
    secret = run(state, "add", "laptop", "--mine", "--concurrent", "1").stdout.strip()
    (digest,) = (key.digest for key in Access(store=KeyFile(state / "keys.json")).keys.values())
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
        (("edit", "nobody", "--per-minute", "1"), {}, "bridge keys list"),
        (("rotate", "nobody"), {}, "bridge keys list"),
        (("edit", "laptop"), {}, "Say what to change"),
        (("edit", "laptop", "--per-minute", "0"), {}, "--per-minute 0: write a whole number"),
        (("edit", "laptop", "--concurrent", "1.5"), {}, "--concurrent 1.5: write a whole number"),
        (("edit", "laptop", "--usd-per-day", "much"), {}, "--usd-per-day much: write a number"),
        (("edit", "laptop", "--usd-per-day", "-1"), {}, "usd_per_day must be a number above 0"),
        (("edit", "laptop", "--per-minute", "9" * 5000), {}, "write a whole number of at least 1"),
        (("add", "a", "--mine", "--per-minute", "9" * 30), {}, "at most 9007199254740991"),
        (("add", "anna", "--payer", "default,"), {}, "--payer: a name is empty"),
        (("add", "a", "--mine", "--model", ""), {}, "--model: a name is empty"),
        (("edit", "laptop", "--model", "opus,,haiku"), {}, "--model: a name is empty"),
        (("edit", "laptop", "--payer", "nobody"), {}, "no payer is named nobody"),
        (("edit", "laptop", "--expires", "soon"), {}, "--expires: 'soon' is neither a period"),
        (("add", "phone", "--mine", "--expires", "1999-01-01"), {}, "not in the future"),
        (("rotate", "laptop", "--overlap", "long"), {}, "--overlap: 'long' is not a period"),
        (
            ("edit", "given", "--per-minute", "1"),
            {"BRIDGE_API_KEYS": "given=a-secret-long-enough"},
            "given:mine=SECRET",
        ),
        (
            ("rotate", "given"),
            {"BRIDGE_API_KEYS": "given=a-secret-long-enough"},
            "a key of BRIDGE_API_KEYS",
        ),
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
    assert list(Access(store=KeyFile(file)).keys) == ["laptop"]
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
