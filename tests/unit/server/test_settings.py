from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.core.access.keys import parse_given
from bridge.core.redis import RedisAddress
from bridge.server.settings import Settings


def read(**flags: Any) -> Settings:
    return Settings(**flags)


SECRETS = ("op:admin=a-secret-long-enough", "op=shortish, op2=tooshort")
"""Keys as they are given: good ones, and too short ones."""

# The name of each variable, a value, and what it comes to.
VALUES: list[tuple[str, str, object]] = [
    ("HOST", "0.0.0.0", "0.0.0.0"),
    ("PORT", "9000", 9000),
    ("PORT", "0", 0),
    ("GRPC_PORT", "9001", 9001),
    ("BRIDGE_REPLICA", "bridge-7", "bridge-7"),
    ("POOL_SIZE", "7", 7),
    ("CLAUDE_TIMEOUT", "2.5", 2.5),
    ("BRIDGE_SPARES", "0", 0),
    ("BRIDGE_MAX_PROCESSES", "9", 9),
    ("BRIDGE_QUEUE_SIZE", "0", 0),
    ("BRIDGE_DRAIN_SECONDS", "0", 0.0),
    ("BRIDGE_DRAIN_DELAY", "5", 5.0),
    ("BRIDGE_SYSTEM_PROMPT", "none", "none"),
    ("BRIDGE_SETTING_SOURCES", " user , project,local,", ("user", "project", "local")),
    ("BRIDGE_CLAUDE_TOOLS", "", ()),
    (
        "BRIDGE_MODEL_ALIASES",
        "gpt-4*=opus, *-mini = haiku,",
        (("gpt-4*", "opus"), ("*-mini", "haiku")),
    ),
    ("BRIDGE_MODEL_ALIASES", "a=b=c", (("a", "b=c"),)),
    ("BRIDGE_UNKNOWN_MODEL", "error", "error"),
    ("BRIDGE_STRICT", "1", True),
    ("BRIDGE_STRICT", "0", False),
    ("BRIDGE_USE_API_KEY", "1", True),
    ("BRIDGE_INCLUDE_REASONING", "1", True),
    ("BRIDGE_SESSION_LOG", "full", "full"),
    ("BRIDGE_SESSION_LOG", "off", "off"),
    ("BRIDGE_STATE_DIR", "/var/lib/bridge", Path("/var/lib/bridge")),
    ("BRIDGE_API_KEYS", "op:admin=a-secret-long-enough", parse_given(SECRETS[0])),
    ("BRIDGE_KEYS_FILE", "/etc/bridge/keys.json", Path("/etc/bridge/keys.json")),
    ("BRIDGE_ALLOWED_HOSTS", "*.LAN, bridge.example.com,", ("*.lan", "bridge.example.com")),
    ("BRIDGE_ALLOWED_ORIGINS", "https://Chat.example.com", ("https://chat.example.com",)),
    ("BRIDGE_RESPONSES_DAYS", "0.5", 0.5),
    ("BRIDGE_RESPONSES_MEGABYTES", "7", 7),
    ("BRIDGE_RESPONSES_STORE", "memory", "memory"),
    ("BRIDGE_REDIS_URL", "redis://:pw@cache/1", RedisAddress("cache", database=1, password="pw")),
]

DEFAULTS: dict[str, object] = {
    "host": "127.0.0.1",
    "port": 8000,
    "grpc_port": 50051,
    "pool_size": 3,
    "claude_timeout": 120.0,
    "bridge_answer_timeout": 3600.0,
    "bridge_spares": 1,
    "bridge_max_processes": None,
    "bridge_heartbeat_seconds": 10.0,
    "bridge_http_keep_alive": 75,
    "bridge_queue_size": 32,
    "bridge_drain_seconds": 30.0,
    "bridge_system_prompt": "claude_code",
    "bridge_setting_sources": ("user",),
    "bridge_claude_path": None,
    "bridge_claude_tools": (),
    "bridge_claude_folder": None,
    "bridge_model_aliases": (),
    "bridge_unknown_model": "default",
    "bridge_strict": False,
    "bridge_include_reasoning": False,
    "bridge_use_api_key": False,
    "bridge_responses_days": 30.0,
    "bridge_responses_megabytes": 256,
    "bridge_responses_store": None,
    "bridge_redis_url": None,
    "bridge_session_log": "metadata",
    "bridge_api_keys": (),
    "bridge_keys_file": None,
    "bridge_allowed_hosts": (),
    "bridge_allowed_origins": (),
}


@pytest.mark.parametrize(("name", "value", "expected"), VALUES)
def test_each_setting_is_read_from_the_variable_of_its_name(
    name: str, value: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(read(), name.lower()) == expected


@pytest.mark.parametrize(("name", "expected"), DEFAULTS.items())
def test_each_setting_has_its_default(name: str, expected: object) -> None:
    assert getattr(read(), name) == expected


def test_the_session_log_is_kept_in_the_users_own_state_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    expected = Path("/home/somebody/.local/state/claude-code-bridge")
    assert read().bridge_state_dir == expected


@pytest.mark.parametrize("name", sorted({name for name, _, _ in VALUES}))
def test_an_empty_variable_counts_as_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unset = getattr(read(), name.lower())
    monkeypatch.setenv(name, "")
    assert getattr(read(), name.lower()) == unset


def test_a_flag_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    assert read(port=9001).port == 9001


def test_variables_of_other_programs_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_SOMETHING_ELSE", "1")
    read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("GRPC_PORT", "65536"),
        ("POOL_SIZE", "0"),
        ("POOL_SIZE", "65"),
        ("POOL_SIZE", "2.5"),
        ("CLAUDE_TIMEOUT", "0"),
        ("CLAUDE_TIMEOUT", "-1"),
        ("CLAUDE_TIMEOUT", "nan"),
        ("BRIDGE_SESSION_LOG_MEGABYTES", "inf"),
        ("CLAUDE_TIMEOUT", "soon"),
        ("BRIDGE_SPARES", "-1"),
        ("BRIDGE_MAX_PROCESSES", "0"),
        ("BRIDGE_QUEUE_SIZE", "-1"),
        ("BRIDGE_DRAIN_SECONDS", "-1"),
        ("BRIDGE_DRAIN_DELAY", "-1"),
        ("BRIDGE_REPLICA", "a b"),
        ("BRIDGE_SYSTEM_PROMPT", "/nonexistent/prompt.txt"),
        ("BRIDGE_SYSTEM_PROMPT", "/"),
        ("BRIDGE_SETTING_SOURCES", "user,system"),
        ("BRIDGE_MODEL_ALIASES", "gpt-4"),
        ("BRIDGE_MODEL_ALIASES", "=opus"),
        ("BRIDGE_MODEL_ALIASES", "gpt-4="),
        ("BRIDGE_UNKNOWN_MODEL", "maybe"),
        ("BRIDGE_STRICT", "maybe"),
        ("BRIDGE_USE_API_KEY", "maybe"),
        ("BRIDGE_SESSION_LOG", "everything"),
        ("BRIDGE_API_KEYS", SECRETS[1]),
        ("BRIDGE_API_KEYS", ","),
        ("BRIDGE_ALLOWED_HOSTS", "http://bridge.example.com"),
        ("BRIDGE_ALLOWED_ORIGINS", "*"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        read()
    (problem,) = caught.value.errors()
    assert str(problem["loc"][0]).upper() == name


def test_the_log_level_may_be_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_LOG_LEVEL", "INFO")
    assert read().bridge_log_level == "info"


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("POOL_SIZE", "x")
    with pytest.raises(ValidationError) as caught:
        read()
    named = {str(problem["loc"][0]).upper() for problem in caught.value.errors()}
    assert named == {"PORT", "POOL_SIZE"}


def test_fewer_processes_than_turns_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_MAX_PROCESSES", "2")
    with pytest.raises(ValidationError, match="BRIDGE_MAX_PROCESSES is 2, but must be at least"):
        read()
    assert read(pool_size=2).max_processes == 2


def test_without_a_limit_there_are_two_processes_more_than_turns_and_spares() -> None:
    assert read().max_processes == 6
    assert read(pool_size=1, bridge_spares=0).max_processes == 3


def test_the_system_prompt_is_the_preset_nothing_or_what_a_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Be brief. Grüße", encoding="utf-8")
    assert read().system_prompt() is None
    assert read(bridge_system_prompt="none").system_prompt() == ""
    assert read(bridge_system_prompt=str(file)).system_prompt() == "Be brief. Grüße"


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(ValidationError):
        read().port = 1


def test_no_secret_is_in_the_settings_text_or_their_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BRIDGE_API_KEYS", SECRETS[0])
    assert "a-secret-long-enough" not in repr(read())
    monkeypatch.setenv("BRIDGE_API_KEYS", SECRETS[1])
    with pytest.raises(ValidationError) as caught:
        read()
    assert "short" not in str(caught.value)


def test_keys_are_kept_in_the_state_folder_unless_a_file_is_named() -> None:
    assert read(bridge_state_dir="/state").keys_file == Path("/state/keys.json")
    assert read(bridge_state_dir="/state", bridge_keys_file="/keys").keys_file == Path("/keys")


# Claude Code's own tools


def test_tools_are_on_with_their_folder(tmp_path: Path) -> None:
    rules = "Read, Bash(git log:*)"
    settings = read(bridge_claude_tools=rules, bridge_claude_folder=tmp_path)
    tools = settings.builtin_tools()
    assert tools is not None
    assert (tools.rules, tools.folder) == (("Read", "Bash(git log:*)"), tmp_path.resolve())


def test_another_claude_is_found_by_path_or_name_and_links_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "2.2.0"
    version.write_text("#!/bin/sh\n")
    version.chmod(0o755)
    link = tmp_path / "claude"
    link.symlink_to(version)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for way in (str(link), "claude", "~/claude"):
        assert read(bridge_claude_path=way).claude_path() == version.resolve()
    assert read().claude_path() is None


@pytest.mark.parametrize("mode", [None, 0o644])
def test_another_claude_that_cannot_be_run_is_refused(tmp_path: Path, mode: int | None) -> None:
    cli = tmp_path / "claude"
    if mode is not None:
        cli.write_text("")
        cli.chmod(mode)
    with pytest.raises(ValidationError, match="neither an executable file nor a command on PATH"):
        read(bridge_claude_path=str(cli))


def test_without_tools_none_are_on_and_the_folder_does_not_matter(tmp_path: Path) -> None:
    assert read().builtin_tools() is None
    assert read(bridge_claude_folder=tmp_path / "missing").builtin_tools() is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"bridge_responses_store": "redis"},
            "BRIDGE_RESPONSES_STORE=redis requires BRIDGE_REDIS_URL",
        ),
        ({"bridge_claude_tools": "Read"}, "BRIDGE_CLAUDE_TOOLS requires BRIDGE_CLAUDE_FOLDER"),
        ({"bridge_claude_tools": "Agent"}, "'Agent' is not one of"),
        (
            {"bridge_claude_tools": "Read", "bridge_claude_folder": Path("/")},
            "BRIDGE_CLAUDE_FOLDER: '/' is or contains your home folder",
        ),
        (
            {"bridge_claude_tools": "Read", "bridge_claude_folder": Path("/missing")},
            "BRIDGE_CLAUDE_FOLDER: '/missing' does not exist",
        ),
    ],
)
def test_tools_that_would_give_too_much_away_are_refused(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError) as error:
        read(**changes)
    assert said in str(error.value)


def test_the_folder_is_kept_apart_from_where_secrets_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "config"))
    for name in ("config", "state"):
        (tmp_path / name).mkdir()
        with pytest.raises(ValidationError, match="contains secrets"):
            read(
                bridge_claude_tools="Read",
                bridge_claude_folder=tmp_path / name,
                bridge_state_dir=tmp_path / "state",
            )


@pytest.mark.parametrize(
    "name", ["bridge_keys_file", "bridge_tls_key", "bridge_tls_cert", "bridge_tls_client_ca"]
)
def test_tools_of_claude_code_do_not_run_beside_files_that_grant_access(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    given = {"bridge_claude_tools": "Read", "bridge_claude_folder": folder}
    assert Settings.model_validate({**given, name: tmp_path / "file"}).builtin_tools()
    with pytest.raises(ValidationError, match="contains secrets"):
        Settings.model_validate({**given, name: folder / "below" / "file"})
