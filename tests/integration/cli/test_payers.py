"""`bridge payers`, and the payers that `bridge keys` names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.core.access.keys import KeyFile, KeyOwner, KeyUse
from bridge.core.contract.states import PayerKind
from bridge.core.payers.payer import Payer, PayerFile
from tests.support.paid_server import KEY, TOKEN, log_in, secret


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def run(state: Path, *arguments: str, **env: str) -> Result:
    # Where nothing answers: no CLI that a command starts is to look for an API elsewhere.
    given = {
        "BRIDGE_STATE_DIR": str(state),
        "HOME": str(state.parent),
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
        **env,
    }
    return CliRunner().invoke(app, arguments, env=given)


def test_payers_are_added_listed_and_removed(state: Path, tmp_path: Path) -> None:
    key = secret(tmp_path / "key", KEY)
    added = run(state, "payers", "add", "mine", "--login", str(tmp_path / "mine"))
    assert added.exit_code == 0
    assert "Restart the server" in added.stdout
    assert "bridge login mine" in added.stdout
    run(state, "payers", "add", "ci", "--token-file", str(secret(tmp_path / "ci", TOKEN)))
    run(state, "payers", "add", "team", "--api-key-file", str(key), "--overflow")
    run(state, "payers", "add", "cloud", "--bedrock")
    assert PayerFile(state).read() == (
        Payer("mine", PayerKind.LOGIN, tmp_path / "mine"),
        Payer("ci", PayerKind.TOKEN, tmp_path / "ci"),
        Payer("team", PayerKind.API_KEY, key, overflow=True),
        Payer("cloud", PayerKind.BEDROCK),
    )
    listed = run(state, "payers", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["mine", "ci", "team", "cloud"]
    assert "yours only" in listed[0]
    assert listed[2].endswith("billed, for overflow")
    found = json.loads(run(state, "payers", "list", "--json").stdout)
    assert [payer["subscription"] for payer in found] == [True, True, False, False]
    assert KEY not in run(state, "payers", "list", "--json").output
    assert "Until then the server uses it" in run(state, "payers", "remove", "cloud").stdout
    assert len(PayerFile(state).read()) == 3


def test_removing_a_payer_says_which_keys_name_it(state: Path, tmp_path: Path) -> None:
    run(state, "payers", "add", "team", "--api-key-file", str(secret(tmp_path / "key", KEY)))
    run(state, "payers", "add", "cloud", "--bedrock")
    for name, payer in (("anna", "team"), ("ben", "team,cloud"), ("carl", "cloud")):
        run(state, "keys", "add", name, "--payer", payer)
    said = run(state, "payers", "remove", "team").stderr
    assert "name it: anna, ben." in said
    assert "bridge keys edit NAME --payer PAYER" in said


def test_removing_the_last_payer_says_who_pays_then(state: Path) -> None:
    run(state, "payers", "add", "mine", "--login")
    assert "your Claude Code pays" in run(state, "payers", "remove", "mine").stderr
    assert "your Claude Code pays" in run(state, "payers", "list").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "a"), "Name one kind"),
        (("add", "a", "--login", "--bedrock"), "Name one kind"),
        (("add", "a", "/folder", "--bedrock"), "--login only"),
        (("add", "no good", "--login"), "No payer was added: a payer's name has 1 to 64 letters"),
        (("add", "a", "--login", ""), "Name the folder of the login"),
        (("add", "a", "--login", __file__), "is not a folder. A file with a token goes with"),
        (("add", "a", "--api-key-file", "/nowhere"), "cannot be read"),
        (("add", "a", "--login", "--overflow"), "billed payer"),
        (("add", "mine", "--login"), "already exists"),
        (("remove", "a"), "The payers are: mine, team"),
        (("check", "a"), "The payers are: mine, team"),
    ],
)
def test_an_error_is_one_line_with_the_remedy(
    state: Path, arguments: tuple[str, ...], said: str
) -> None:
    with_payers(state)
    before = PayerFile(state).read()
    result = run(state, "payers", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("bridge: ")
    assert said in line
    assert PayerFile(state).read() == before


def with_payers(state: Path) -> None:
    PayerFile(state).add(Payer("mine", PayerKind.LOGIN, state / "mine"))
    PayerFile(state).add(Payer("team", PayerKind.API_KEY, secret(state / "key", KEY)))


def test_each_payer_is_checked_with_its_own_account(state: Path) -> None:
    with_payers(state)
    out = run(state, "payers", "check", "--json")
    assert out.exit_code == 1
    assert [(each["check"], each["mark"]) for each in json.loads(out.stdout)] == [
        ("payer mine", "bad"),
        ("payer team", "good"),
    ]
    assert "bridge login mine" in run(state, "payers", "check", "mine").stdout
    log_in(state / "mine")
    checked = run(state, "payers", "check")
    assert checked.exit_code == 0, checked.output
    mine, team = checked.stdout.splitlines()[:2]
    assert "Claude Max" in mine
    assert "ANTHROPIC_API_KEY" in team


def test_the_doctor_examines_each_payer_and_is_content_with_one(state: Path) -> None:
    with_payers(state)
    examined = run(state, "doctor", "--json", PORT="0", GRPC_PORT="0")
    checks = {each["check"]: each["mark"] for each in json.loads(examined.stdout)["checks"]}
    assert (checks["payer mine"], checks["payer team"]) == ("warning", "good")
    assert "login" not in checks
    PayerFile(state).path.write_text("{")
    broken = json.loads(run(state, "doctor", "--json").stdout)
    assert not broken["ok"]
    assert "is broken" in broken["checks"][-1]["found"]


# Keys


def test_a_key_says_whose_it_is_and_who_pays(state: Path) -> None:
    with_payers(state)
    assert run(state, "keys", "add", "phone", "--mine").exit_code == 0
    assert run(state, "keys", "add", "anna", "--payer", "team").exit_code == 0
    both = ("--mine", "--payer", "mine,team", "--overflow")
    assert run(state, "keys", "add", "laptop", *both).exit_code == 0
    uses = {key.name: key.use for key in KeyFile(state / "keys.json").read()}
    assert uses == {
        "phone": KeyUse(KeyOwner.MINE),
        "anna": KeyUse(KeyOwner.OTHER, ("team",)),
        "laptop": KeyUse(KeyOwner.MINE, ("mine", "team"), overflow=True),
    }
    listed = run(state, "keys", "list").stdout
    assert "someone else's, payer team" in listed
    assert "yours, payer mine, then team, overflow" in listed
    anna = json.loads(run(state, "keys", "list", "--json").stdout)[1]
    assert (anna["owner"], anna["payers"], anna["overflow"]) == ("other", ["team"], False)


def test_a_key_of_an_earlier_version_is_marked_without_a_new_secret(state: Path) -> None:
    with_payers(state)
    file = KeyFile(state / "keys.json")
    file.add("old")
    content = json.loads(file.path.read_text())
    for name in ("owner", "payers", "overflow"):
        del content["keys"][0][name]
    file.path.write_text(json.dumps(content))
    (before,) = file.read()
    assert before.use == KeyUse()
    assert "not marked" in run(state, "keys", "list").stdout
    marked = run(state, "keys", "edit", "old", "--payer", "team")
    assert "someone else's, payer team" in marked.stdout
    (after,) = file.read()
    assert (after.digest, after.use) == (before.digest, KeyUse(KeyOwner.OTHER, ("team",)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "a"), "--mine if it is your own"),
        (("add", "a", "--payer", "mine"), "serves its owner only"),
        (("add", "a", "--payer", "none"), "the payers are mine, team"),
        (("add", "a", "--mine", "--payer", "mine,team"), "add --overflow"),
        (("add", "a", "--mine", "--payer", "mine", "--payer", "mine"), "named twice"),
        (("edit", "nobody", "--mine"), "bridge keys list"),
        (("edit", "given", "--mine"), "given:mine=SECRET"),
    ],
)
def test_a_key_is_not_given_what_it_must_not_have(
    state: Path, arguments: tuple[str, ...], said: str
) -> None:
    with_payers(state)
    result = run(state, "keys", *arguments, BRIDGE_API_KEYS="given=a-secret-long-enough")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert said in line
    assert KeyFile(state / "keys.json").read() == ()


def test_two_logins_are_never_in_one_list(state: Path) -> None:
    with_payers(state)
    PayerFile(state).add(Payer("work", PayerKind.LOGIN, state / "work"))
    result = run(state, "keys", "add", "a", "--mine", "--payer", "mine,work")
    assert "a list has one at most" in result.stderr


def test_without_a_list_of_payers_a_key_can_name_the_only_one(state: Path) -> None:
    assert run(state, "keys", "add", "anna", "--payer", "default").exit_code == 0
    assert "bridge payers add" not in run(state, "keys", "add", "b", "--payer", "default").stderr
    assert "the payers are default" in run(state, "keys", "add", "c", "--payer", "x").stderr
