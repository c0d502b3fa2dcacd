from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.core.claude.processes.user_settings import (
    LOGIN_HELPERS,
    NOTHING,
    kept_of,
    read_user_settings,
)
from tests.support import hostile


def test_the_default_model_is_kept() -> None:
    assert kept_of({"model": "opus"}).settings == {"model": "opus"}


@pytest.mark.parametrize("name", LOGIN_HELPERS)
def test_what_a_user_logs_in_by_is_kept(name: str) -> None:
    assert kept_of({name: "value"}).settings == {name: "value"}


@pytest.mark.parametrize(
    "name",
    [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_BEDROCK_BASE_URL",
        "ANTHROPIC_FOUNDRY_RESOURCE",
        "ANTHROPIC_MODEL",
        "ANTHROPIC_VERTEX_PROJECT_ID",
        "AWS_PROFILE",
        "CLAUDE_CODE_CLIENT_CERT",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLOUD_ML_REGION",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "HTTPS_PROXY",
        "NODE_EXTRA_CA_CERTS",
        "no_proxy",
    ],
)
def test_variables_of_the_login_are_kept(name: str) -> None:
    assert kept_of({"env": {name: "value"}}).environment == {name: "value"}


@pytest.mark.parametrize("name", [*hostile.ENVIRONMENT, "PATH", "LD_PRELOAD", "NODE_OPTIONS"])
def test_other_variables_are_not(name: str) -> None:
    assert kept_of({"env": {name: "value"}}) == NOTHING


def test_nothing_else_is(tmp_path: Path) -> None:
    assert kept_of(hostile.settings(tmp_path, tmp_path, tmp_path)) == NOTHING


@pytest.mark.parametrize(
    "settings",
    [
        None,
        [],
        "text",
        {"model": None, "apiKeyHelper": ["sh"], "env": {"AWS_PROFILE": {}, "AWS_REGION": None}},
        {"model": "", "apiKeyHelper": "", "env": "AWS_PROFILE=x"},
    ],
)
def test_what_is_of_another_form_is_left_out(settings: Any) -> None:
    assert kept_of(settings) == NOTHING


def test_a_number_in_the_variables_is_taken_as_text() -> None:
    given = {"env": {"CLAUDE_CODE_USE_BEDROCK": 1}}
    assert kept_of(given).environment == {"CLAUDE_CODE_USE_BEDROCK": "1"}


def test_the_file_is_found_where_claude_code_keeps_it(tmp_path: Path) -> None:
    for folder, model in ((tmp_path / ".claude", "opus"), (tmp_path / "other", "haiku")):
        folder.mkdir()
        (folder / "settings.json").write_text(json.dumps({"model": model}), encoding="utf-8-sig")
    assert read_user_settings({"HOME": str(tmp_path)}).model == "opus"
    moved = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(tmp_path / "other")}
    assert read_user_settings(moved).model == "haiku"


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert read_user_settings({"HOME": str(tmp_path)}) == NOTHING


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000])
def test_a_broken_file_is_logged_without_its_content(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "settings.json").write_bytes(text.encode("latin-1"))
    assert read_user_settings({"CLAUDE_CONFIG_DIR": str(tmp_path)}) == NOTHING
    assert str(tmp_path) in caplog.text
