"""The messages about invalid settings, and about variables that are not settings."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.cli.serve import serve
from bridge.server.settings import Settings
from bridge.server.settings_errors import (
    CLIENT_KEY,
    FLAGS,
    allowed_in,
    unknown_variables,
    wrong_values,
)

NO_FLAGS: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "http", "PORT (--port) is 'http'{an integer from 0 to 65535}"),
        ("POOL_SIZE", "2.5", "POOL_SIZE (--pool-size) is '2.5'{an integer from 1 to 64}"),
        ("CLAUDE_TIMEOUT", "0", "CLAUDE_TIMEOUT (--timeout) is '0'{a number above 0}"),
        ("BRIDGE_IDLE_TIMEOUT", "nan", "BRIDGE_IDLE_TIMEOUT is 'nan'{a number of at least 0}"),
        ("BRIDGE_STRICT", "maybe", "BRIDGE_STRICT is 'maybe'{1 or 0}"),
        ("BRIDGE_MAX_PROCESSES", "x", "BRIDGE_MAX_PROCESSES is 'x'{an integer of at least 1}"),
        (
            "BRIDGE_GRPC_KEEPALIVE_SECONDS",
            "0",
            "BRIDGE_GRPC_KEEPALIVE_SECONDS is '0'{a number from 1 to 86400}",
        ),
        (
            "BRIDGE_GRPC_MAX_STREAMS",
            "0",
            "BRIDGE_GRPC_MAX_STREAMS is '0'{an integer from 1 to 65536}",
        ),
        ("BRIDGE_SESSION_LOG", "all", "BRIDGE_SESSION_LOG is 'all'{one of off, metadata, full}"),
        (
            "BRIDGE_SETTING_SOURCES",
            "user,system",
            "BRIDGE_SETTING_SOURCES is 'system'{one of user, project, local}",
        ),
        (
            "BRIDGE_REDIS_URL",
            "redis://:sesame@cache/first",
            "BRIDGE_REDIS_URL: the database must be a number, as in redis://HOST:PORT/0.",
        ),
        ("BRIDGE_MODEL_ALIASES", "a", "BRIDGE_MODEL_ALIASES: 'a' is not of the form NAME=MODEL."),
        ("PORT", "9" * 99, f"PORT (--port) is '{'9' * 60}…'{{an integer from 0 to 65535}}"),
    ],
)
def test_a_wrong_value_is_reported_with_what_is_allowed(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings(**NO_FLAGS)
    assert wrong_values(caught.value) == [said.replace("{", ", but must be ").replace("}", ".")]


def test_no_part_of_a_secret_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_API_KEYS", "mine=abc$%&")
    with pytest.raises(ValidationError) as caught:
        Settings(**NO_FLAGS)
    (line,) = wrong_values(caught.value)
    assert "abc" not in line


def test_the_allowed_values_of_every_setting_can_be_described() -> None:
    for field in Settings.model_fields.values():
        assert allowed_in(field)


def test_each_flag_is_one_of_serve_and_its_help_names_the_variable() -> None:
    options = inspect.get_annotations(serve, eval_str=True)
    for setting, flag in FLAGS.items():
        option = options[flag.removeprefix("--").replace("-", "_")]
        assert option.__metadata__[0].help.endswith(setting.upper())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("BRIDGE_STRIKT", "BRIDGE_STRICT"),
        ("BRIDGE_APIKEYS", "BRIDGE_API_KEYS"),
        ("BRIDGE_SESSIONLOG", "BRIDGE_SESSION_LOG"),
        ("BRIDGE_ALLOWED_HOST", "BRIDGE_ALLOWED_HOSTS"),
        ("bridge_park_second", "BRIDGE_PARK_SECONDS"),
        ("BRIDGE_PORT", "PORT"),
        ("BRIDGE_CLAUDE_TIMEOUT", "CLAUDE_TIMEOUT"),
    ],
)
def test_a_misspelling_is_reported_with_a_suggestion(given: str, meant: str) -> None:
    (line,) = unknown_variables([given])
    assert line == f"Unknown setting {given} (ignored). Did you mean {meant}?"


def test_what_is_like_no_setting_is_named_in_one_line() -> None:
    # As Kubernetes sets them beside a service of the name bridge.
    (line,) = unknown_variables(["BRIDGE_SERVICE_HOST", "BRIDGE_PORT_8000_TCP_ADDR"])
    assert line.startswith(
        "Unknown settings BRIDGE_PORT_8000_TCP_ADDR, BRIDGE_SERVICE_HOST (ignored)."
    )


def test_settings_the_clients_key_and_other_programs_variables_are_passed_over() -> None:
    settings = [name.upper() for name in Settings.model_fields]
    assert unknown_variables([*settings, "bridge_strict", CLIENT_KEY, "PATH", "MY_BRIDGE_X"]) == []


NONE: dict[str, Any] = {}


def test_a_user_without_a_home_gets_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for folder in ("", "/var/lib/bridge"):
        monkeypatch.setenv("BRIDGE_STATE_DIR", folder)
        with pytest.raises(ValidationError) as error:
            Settings(**NONE)
        (line,) = wrong_values(error.value)
        assert line.startswith("No home folder: HOME is not set")
        assert "Set HOME to a folder" in line
    monkeypatch.delenv("BRIDGE_STATE_DIR")
    monkeypatch.setenv("HOME", "/home/bridge")
    assert Settings(**NONE).bridge_state_dir.is_relative_to("/home/bridge")
