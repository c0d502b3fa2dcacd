"""Servers find out whether they use the same account, and nothing else of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.core.claude.processes.environment import PROVIDER_SWITCHES
from bridge.core.claude.processes.fingerprint import AccountFingerprint
from bridge.core.claude.processes.launch import Launcher
from bridge.core.claude.processes.user_settings import UserSettings


def value(environment: dict[str, str], **options: Any) -> str:
    return AccountFingerprint(Launcher(Path("/cli"), environment, Path("/work"), **options)).value()


def login(folder: Path, account: str) -> dict[str, str]:
    """The environment of a login with this account in a folder of its own."""
    folder.mkdir(exist_ok=True)
    content = {"oauthAccount": {"accountUuid": account, "organizationUuid": "org"}}
    (folder / ".claude.json").write_text(json.dumps(content))
    return {"CLAUDE_CONFIG_DIR": str(folder)}


def test_logins_of_one_account_are_the_same_wherever_their_folders_are(tmp_path: Path) -> None:
    one, other = login(tmp_path / "a", "me"), login(tmp_path / "b", "me")
    assert value(one) == value(other) != ""
    assert value(login(tmp_path / "c", "another")) != value(one)
    # A new login changes it.
    found = AccountFingerprint(Launcher(Path("/cli"), one, Path("/work")))
    before = found.value()
    login(tmp_path / "a", "another one")
    assert found.value() not in ("", before)


def test_a_secret_is_the_same_account_but_not_in_another_role_or_at_another_api() -> None:
    token, key = {"CLAUDE_CODE_OAUTH_TOKEN": "secret"}, {"ANTHROPIC_API_KEY": "secret"}
    found = {
        value(token),
        value({"CLAUDE_CODE_OAUTH_TOKEN": "another"}),
        value({**token, "ANTHROPIC_BASE_URL": "http://x"}),
        value(key, use_api_key=True),
    }
    assert len(found) == 4
    assert all("secret" not in each and each for each in found)
    assert value({**token, "HOME": "/elsewhere"}) == value(token)
    assert value(token, user_settings=UserSettings(environment={"X": "y"})) == value(token)
    assert value({}, user_settings=UserSettings(environment=token)) == value(token)


@pytest.mark.parametrize("switch", sorted(PROVIDER_SWITCHES))
def test_the_account_at_a_cloud_provider_is_not_known(switch: str) -> None:
    assert value({switch: "1", "CLAUDE_CODE_OAUTH_TOKEN": "secret"}) == ""


def test_without_a_login_or_with_keys_from_a_command_it_is_not_known(tmp_path: Path) -> None:
    assert value({"CLAUDE_CONFIG_DIR": str(tmp_path)}) == ""
    assert value({"CLAUDE_CONFIG_DIR": str(tmp_path), "ANTHROPIC_API_KEY": "unused"}) == ""
    helper = UserSettings(login={"apiKeyHelper": "command"})
    assert value({"CLAUDE_CODE_OAUTH_TOKEN": "secret"}, user_settings=helper) == ""
