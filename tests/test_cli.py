from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import bridge
from bridge import client
from bridge.cli import app
from bridge.client import ChatError, ServerAddress


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(app, arguments, env=env)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """A port where nothing listens."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def test_the_version_is_printed() -> None:
    result = run("version")
    assert result.exit_code == 0
    assert result.stdout == f"{bridge.__version__}\n"


def test_without_a_command_the_commands_are_listed() -> None:
    result = run()
    for command in ("serve", "chat", "models", "version"):
        assert command in result.output


@pytest.mark.parametrize("command", [("serve",), ("chat", "hi"), ("models",)])
def test_a_bad_variable_is_named_and_ends_the_command_with_2(command: tuple[str, ...]) -> None:
    result = run(*command, PORT="http", POOL_SIZE="0")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["PORT", "POOL_SIZE"]
    assert result.stdout == ""


def test_a_bad_flag_ends_the_command_with_2_too() -> None:
    result = run("serve", "--port", "70000")
    assert result.exit_code == 2
    assert result.stderr.startswith("PORT: ")
    assert run("serve", "--port", "http").exit_code == 2


def test_settings_that_do_not_fit_together_are_named() -> None:
    result = run("serve", BRIDGE_MAX_PROCESSES="1")
    assert result.exit_code == 2
    assert result.stderr == "BRIDGE_MAX_PROCESSES must be at least POOL_SIZE\n"


@pytest.mark.parametrize("command", [("chat", "hi"), ("models",)])
def test_with_no_server_there_is_one_line_that_says_what_to_do(
    command: tuple[str, ...], nobody: str
) -> None:
    result = run(*command, PORT=nobody)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("bridge: ")
    assert f"127.0.0.1:{nobody}" in line
    assert "bridge serve" in line


def test_an_address_that_is_given_goes_before_the_settings(nobody: str) -> None:
    result = run("chat", "hi", "--url", f"http://127.0.0.1:{nobody}", PORT="1")
    assert f"127.0.0.1:{nobody}" in result.stderr


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7"),
        ("::1", "http://[::1]:7"),
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::", "http://[::1]:7"),
    ],
)
def test_the_server_is_looked_for_where_the_settings_say(
    host: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ServerAddress] = []

    def listed(server: ServerAddress, *, api_key: str | None) -> list[str]:
        asked.append(server)
        return ["opus", "haiku"]

    monkeypatch.setattr(client, "list_models", listed)
    result = run("models", HOST=host, PORT="7")
    assert result.exit_code == 0
    assert result.stdout == "opus\nhaiku\n"
    assert asked == [ServerAddress(url)]


def test_an_answer_is_printed_with_a_line_end_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def answered(server: ServerAddress, prompt: str, **options: Any) -> Iterator[str]:
        asked.append((prompt, options))
        yield from ("Hel", "lo")

    monkeypatch.setattr(client, "stream_chat", answered)
    result = run("chat", "hi", "--model", "opus", "--system", "Be brief.")
    assert result.exit_code == 0
    assert result.stdout == "Hello\n"
    assert asked == [("hi", {"model": "opus", "system": "Be brief.", "api_key": None})]


def test_an_answer_that_breaks_off_is_an_error_after_what_there_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(server: ServerAddress, prompt: str, **options: Any) -> Iterator[str]:
        yield "half"
        raise ChatError("The answer was cut off.")

    monkeypatch.setattr(client, "stream_chat", broken)
    result = run("chat", "hi")
    assert result.exit_code == 1
    assert result.stdout.startswith("half")
    assert result.stderr == "bridge: The answer was cut off.\n"
