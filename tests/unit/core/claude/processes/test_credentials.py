"""The environment of a payer's processes has its own credential and none of any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.core.claude.processes.credentials import Credential
from bridge.core.claude.processes.environment import PROVIDER_SWITCHES
from bridge.core.claude.processes.user_settings import UserSettings
from bridge.core.contract.states import PayerKind

FOREIGN = {
    **dict.fromkeys(PROVIDER_SWITCHES, "1"),
    "ANTHROPIC_API_KEY": "theirs",
    "ANTHROPIC_AUTH_TOKEN": "theirs",
    "ANTHROPIC_PROFILE": "theirs",
    "CLAUDE_CODE_OAUTH_TOKEN": "theirs",
    "CLAUDE_CODE_OAUTH_REFRESH_TOKEN": "theirs",
}
OWN = {"PATH": "/bin", "ANTHROPIC_BASE_URL": "http://x", "AWS_REGION": "r", **FOREIGN}
KEPT = {"PATH": "/bin", "ANTHROPIC_BASE_URL": "http://x", "AWS_REGION": "r"}
FOLDER = Path("/folder")


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (PayerKind.LOGIN, {}),
        (PayerKind.TOKEN, {"CLAUDE_CODE_OAUTH_TOKEN": "secret"}),
        (PayerKind.API_KEY, {"ANTHROPIC_API_KEY": "secret"}),
        (PayerKind.BEDROCK, {"CLAUDE_CODE_USE_BEDROCK": "1"}),
        (PayerKind.VERTEX, {"CLAUDE_CODE_USE_VERTEX": "1"}),
        (PayerKind.FOUNDRY, {"CLAUDE_CODE_USE_FOUNDRY": "1"}),
    ],
)
def test_it_has_its_own_credential_and_no_other(kind: PayerKind, own: dict[str, str]) -> None:
    found = Credential(kind, FOLDER, "secret").environment(OWN)
    assert found == {**KEPT, **own, "CLAUDE_CONFIG_DIR": "/folder"}


def test_the_login_that_claude_code_has_anyway_is_never_replaced_by_an_api_key() -> None:
    found = Credential(PayerKind.LOGIN).environment(OWN)
    assert found == {n: v for n, v in OWN.items() if n != "ANTHROPIC_API_KEY"}


SETTINGS = UserSettings(
    "opus",
    {"apiKeyHelper": "a", "awsAuthRefresh": "b", "gcpAuthRefresh": "c", "proxyAuthHelper": "d"},
    {"ANTHROPIC_API_KEY": "theirs", "AWS_REGION": "r", "CLAUDE_CODE_OAUTH_TOKEN": "theirs"},
)


@pytest.mark.parametrize(
    ("kind", "helpers"),
    [
        (PayerKind.TOKEN, {"proxyAuthHelper"}),
        (PayerKind.API_KEY, {"proxyAuthHelper"}),
        (PayerKind.BEDROCK, {"proxyAuthHelper", "awsAuthRefresh"}),
        (PayerKind.VERTEX, {"proxyAuthHelper", "gcpAuthRefresh"}),
    ],
)
def test_the_operators_settings_do_not_log_it_in_as_another(
    kind: PayerKind, helpers: set[str]
) -> None:
    found = Credential(kind, FOLDER, "secret").settings(SETTINGS)
    assert found.model == "opus"
    assert set(found.login) == helpers
    assert found.environment == {"AWS_REGION": "r"}


def test_a_login_has_the_settings_of_its_folder_without_an_api_key() -> None:
    found = Credential(PayerKind.LOGIN, FOLDER).settings(SETTINGS)
    assert found.login == SETTINGS.login
    assert found.environment == {"AWS_REGION": "r", "CLAUDE_CODE_OAUTH_TOKEN": "theirs"}
