"""The file of payers, and their secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.core.contract.states import PayerKind
from bridge.core.payers.payer import MAX_PAYERS, Payer, PayerError, PayerFile, find


def test_payers_are_kept_in_order_and_privately(tmp_path: Path) -> None:
    file = PayerFile(tmp_path / "state")
    assert file.read() == ()
    payers = (
        Payer("mine", PayerKind.LOGIN),
        Payer("work", PayerKind.LOGIN, tmp_path / "work"),
        Payer("ci", PayerKind.TOKEN, tmp_path / "token"),
        Payer("team", PayerKind.API_KEY, tmp_path / "key", overflow=True),
        Payer("cloud", PayerKind.BEDROCK),
    )
    for payer in payers:
        file.add(payer)
    assert file.read() == payers
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.remove("work") == tuple(p for p in payers if p.name != "work")
    assert find(file.read(), "team").overflow
    with pytest.raises(PayerError, match="already exists"):
        file.add(payers[0])
    with pytest.raises(PayerError, match="The payers are: mine, ci, team, cloud"):
        file.remove("work")


def test_there_are_only_so_many(tmp_path: Path) -> None:
    file = PayerFile(tmp_path)
    for number in range(MAX_PAYERS):
        file.add(Payer(f"p{number}", PayerKind.VERTEX))
    with pytest.raises(PayerError, match="the most there can be"):
        file.add(Payer("more", PayerKind.VERTEX))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"version": 2, "payers": []}',
        '{"version": 1, "payers": [{"name": "a"}]}',
        '{"version": 1, "payers": [{"name": "a b", "kind": "login", "path": null, '
        '"overflow": false}]}',
        '{"version": 1, "payers": [{"name": "a", "kind": "token", "path": null, '
        '"overflow": false}]}',
        '{"version": 1, "payers": [{"name": "a", "kind": "other", "path": null, '
        '"overflow": false}]}',
        '{"version": 1, "payers": [{"name": "a", "kind": "login", "path": null, "overflow": 1}]}',
    ],
)
def test_a_broken_file_is_not_taken_for_an_empty_one(tmp_path: Path, content: str) -> None:
    file = PayerFile(tmp_path)
    file.path.write_text(content)
    file.path.chmod(0o600)
    with pytest.raises(PayerError, match="is broken"):
        file.read()


def test_two_payers_of_one_name_are_broken(tmp_path: Path) -> None:
    file = PayerFile(tmp_path)
    file.add(Payer("a", PayerKind.LOGIN))
    content = json.loads(file.path.read_text())
    content["payers"] *= 2
    file.path.write_text(json.dumps(content))
    with pytest.raises(PayerError, match="is broken"):
        file.read()


def test_a_file_that_others_can_write_is_not_read(tmp_path: Path) -> None:
    file = PayerFile(tmp_path)
    file.add(Payer("a", PayerKind.LOGIN))
    file.path.chmod(0o622)
    with pytest.raises(PayerError, match="chmod 600"):
        file.read()


def secret(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_secret_is_the_content_of_its_file(tmp_path: Path) -> None:
    key = secret(tmp_path / "key", "sk-ant-api03-x\n")
    assert Payer("team", PayerKind.API_KEY, key).secret() == "sk-ant-api03-x"
    assert Payer("mine", PayerKind.LOGIN, tmp_path).secret() == ""


@pytest.mark.parametrize(
    ("kind", "text", "mode", "said"),
    [
        (PayerKind.API_KEY, "sk-ant-api03-x", 0o644, "chmod 600"),
        (PayerKind.API_KEY, "", 0o600, "one secret"),
        (PayerKind.TOKEN, "two words", 0o600, "one secret"),
        (PayerKind.API_KEY, "sk-ant-oat01-x", 0o600, "--token-file"),
        (PayerKind.TOKEN, "sk-ant-api03-x", 0o600, "--api-key-file"),
    ],
)
def test_a_secret_that_cannot_be_used_says_why_without_its_text(
    tmp_path: Path, kind: PayerKind, text: str, mode: int, said: str
) -> None:
    path = secret(tmp_path / "secret", text, mode)
    with pytest.raises(PayerError, match=said) as caught:
        Payer("a", kind, path).secret()
    assert not text or text not in str(caught.value)


def test_a_missing_secret_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(PayerError, match="nowhere cannot be read"):
        Payer("a", PayerKind.TOKEN, tmp_path / "nowhere").secret()


def test_requests_never_overflow_to_a_login() -> None:
    with pytest.raises(ValueError, match="billed"):
        Payer("a", PayerKind.TOKEN, Path("/x"), overflow=True)


def test_only_a_login_without_a_folder_uses_claude_codes_own(tmp_path: Path) -> None:
    assert Payer("a", PayerKind.LOGIN).config_folder(tmp_path) is None
    assert Payer("a", PayerKind.LOGIN, tmp_path / "x").config_folder(tmp_path) == tmp_path / "x"
    own = tmp_path / "payers" / "a"
    assert Payer("a", PayerKind.API_KEY, tmp_path / "x").config_folder(tmp_path) == own
