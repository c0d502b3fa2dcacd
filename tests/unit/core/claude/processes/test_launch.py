from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.core.claude.processes.launch import API_KEY, Launcher, hermetic_environment
from bridge.core.claude.processes.user_settings import UserSettings, kept_of
from bridge.core.validation.builtin_tools import BuiltinTools, parsed_rules

CLI = Path("/opt/claude")
FOLDER = Path("/var/empty")


def launcher(environment: Mapping[str, str] | None = None, **changes: Any) -> Launcher:
    return Launcher(CLI, environment or {}, FOLDER, **changes)


def settings_of(argv: tuple[str, ...]) -> dict[str, Any]:
    loaded = json.loads(argv[argv.index("--settings") + 1])
    assert isinstance(loaded, dict)
    return loaded


# The environment


def test_the_servers_environment_reaches_the_cli() -> None:
    env = launcher({"PATH": "/bin", "HTTPS_PROXY": "http://p", "HOME": "/h"}).command().env
    assert (env["PATH"], env["HTTPS_PROXY"], env["HOME"]) == ("/bin", "http://p", "/h")


@pytest.mark.parametrize("name", ["BRIDGE_API_KEYS", "BRIDGE_X", "BRIDGE_", "CLAUDECODE"])
def test_what_is_the_bridges_own_or_of_a_claude_code_around_it_does_not(name: str) -> None:
    assert name not in launcher({name: "1"}).command().env


def test_a_login_in_the_environment_is_passed_on() -> None:
    env = launcher({"CLAUDE_CODE_OAUTH_TOKEN": "t"}).command().env
    assert env["CLAUDE_CODE_OAUTH_TOKEN"] == "t"


@pytest.mark.parametrize("use", [True, False])
def test_the_api_key_is_passed_on_only_when_that_is_asked_for(use: bool) -> None:
    env = launcher({API_KEY: "k"}, use_api_key=use).command().env
    assert env.get(API_KEY) == ("k" if use else None)


def test_asking_for_the_api_key_where_there_is_none_makes_none_up() -> None:
    assert API_KEY not in launcher(use_api_key=True).command().env


@pytest.mark.parametrize(
    ("environment", "has"), [({API_KEY: "k"}, True), ({API_KEY: ""}, False), ({}, False)]
)
def test_an_empty_api_key_counts_as_none(environment: dict[str, str], has: bool) -> None:
    assert launcher(environment).has_api_key is has


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DISABLE_AUTO_COMPACT", "1"),
        ("ENABLE_TOOL_SEARCH", "false"),
        ("CLAUDE_CODE_DISABLE_CLAUDE_MDS", "1"),
        ("CLAUDE_CODE_DISABLE_REFUSAL_RETRY", "1"),
        ("CLAUDE_CODE_ENTRYPOINT", "sdk-py"),
    ],
)
def test_the_environment_stops_what_the_cli_would_do_by_itself_whatever_the_server_has(
    name: str, value: str
) -> None:
    assert launcher({name: "other"}).command().env[name] == value


def test_the_cli_runs_in_the_neutral_folder_and_learns_of_no_other() -> None:
    command = launcher({"PWD": "/home/somebody/secret-project"}).command()
    assert command.cwd == FOLDER
    assert command.env["PWD"] == str(FOLDER)


def test_making_a_command_leaves_the_servers_environment_alone() -> None:
    environment = {API_KEY: "k", "BRIDGE_X": "1"}
    launcher(environment).command()
    assert environment == {API_KEY: "k", "BRIDGE_X": "1"}


# The arguments


def test_the_cli_speaks_lines_of_json_and_streams_every_token() -> None:
    argv = launcher().command().argv
    assert argv[0] == str(CLI)
    assert {
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        "--include-partial-messages",
    } <= set(argv)


def test_no_built_in_tool_is_on_and_the_callers_own_may_be_called() -> None:
    argv = launcher().command().argv
    assert "--tools=" in argv
    assert "--allowedTools=mcp__client" in argv


def test_the_users_mcp_servers_stay_out_and_no_transcript_is_written() -> None:
    argv = launcher().command().argv
    assert "--strict-mcp-config" in argv
    assert "--no-session-persistence" in argv


def test_the_flags_that_would_drop_the_login_are_not_used() -> None:
    command = launcher().command()
    assert "--bare" not in command.argv
    assert "CLAUDE_CODE_SIMPLE" not in command.env


@pytest.mark.parametrize(
    ("sources", "flag"),
    [
        ((), "--setting-sources="),
        (("project", "local"), "--setting-sources=project,local"),
    ],
)
def test_only_the_settings_that_were_named_are_read(sources: tuple[str, ...], flag: str) -> None:
    assert flag in launcher(setting_sources=sources).command().argv


def test_by_default_the_cli_reads_no_settings_at_all() -> None:
    assert "--setting-sources=" in launcher().command().argv


def test_the_default_model_and_the_login_of_the_user_are_passed_on() -> None:
    user = kept_of({"model": "haiku", "apiKeyHelper": "echo key"})
    settings = settings_of(tuple(launcher(user_settings=user).command().argv))
    assert (settings["model"], settings["apiKeyHelper"]) == ("haiku", "echo key")


def test_no_setting_of_the_user_overrides_the_bridges() -> None:
    user = UserSettings(login={"outputStyle": "evil", "env": "evil"})
    argv = launcher(user_settings=user).command().argv
    assert settings_of(tuple(argv)) == settings_of(tuple(launcher().command().argv))


# Claude Code's own tools

TOOLS = BuiltinTools(Path("/srv/shared"), parsed_rules("Read,Bash(git log:*),Bash(git show:*)"))


def test_tools_that_are_listed_are_on_with_their_rules_in_their_folder() -> None:
    command = launcher({"PWD": "/x"}, builtin_tools=TOOLS).command()
    assert "--tools=Read,Bash" in command.argv
    assert "--allowedTools=mcp__client,Read,Bash(git log:*),Bash(git show:*)" in command.argv
    assert (command.cwd, command.env["PWD"]) == (TOOLS.folder, str(TOOLS.folder))


def test_what_no_rule_allows_is_denied_without_a_prompt() -> None:
    command = launcher(builtin_tools=TOOLS).command()
    assert {
        "--permission-mode=dontAsk",
        "--permission-prompts=none",
        "--restricted",
    } <= set(command.argv)
    assert not any("dangerously" in part or "bypass" in part for part in command.argv)


def test_no_command_outlives_the_answer() -> None:
    env = launcher(builtin_tools=TOOLS).command().env
    assert env["CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"] == "1"


def test_of_the_users_settings_hooks_memory_style_and_language_are_stopped_at_the_start() -> None:
    settings = settings_of(tuple(launcher().command().argv))
    assert settings["disableAllHooks"] is True
    assert settings["claudeMdExcludes"] == ["**"]
    assert settings["autoMemoryEnabled"] is False
    assert settings["outputStyle"] == "default"
    assert settings["language"] == ""


# Hermetic


def test_a_hermetic_environment_keeps_nothing_but_what_a_program_needs_to_run() -> None:
    base = {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "TMPDIR": "/t",
        "HOME": "/home/somebody",
        "HTTPS_PROXY": "http://p",
        "NODE_OPTIONS": "--inspect",
        "CLAUDE_CONFIG_DIR": "/home/somebody/.claude",
        "CLAUDE_CODE_OAUTH_TOKEN": "real",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "ANTHROPIC_API_KEY": "real",
        "ANTHROPIC_AUTH_TOKEN": "real",
        "ANTHROPIC_BASE_URL": "https://api.example.com",
        "AWS_PROFILE": "real",
    }
    env = hermetic_environment(base, Path("/h"), "http://127.0.0.1:1")
    assert env == {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "TMPDIR": "/t",
        "HOME": "/h",
        "CLAUDE_CONFIG_DIR": "/h/.claude",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "CLAUDE_CODE_OAUTH_TOKEN": "simulated",
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def test_what_the_base_does_not_have_is_not_made_up() -> None:
    assert "PATH" not in hermetic_environment({}, Path("/h"), "http://127.0.0.1:1")


def test_a_command_in_a_hermetic_environment_knows_nothing_of_the_user() -> None:
    base = {"PATH": "/bin", "USER": "somebody", "ANTHROPIC_API_KEY": "real", "SSH_AUTH_SOCK": "/s"}
    env = launcher(hermetic_environment(base, Path("/h"), "http://127.0.0.1:1")).command().env
    assert not {"USER", "ANTHROPIC_API_KEY", "SSH_AUTH_SOCK"} & set(env)
