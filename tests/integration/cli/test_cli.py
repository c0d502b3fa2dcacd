from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner, Result

import bridge
from bridge.cli import app
from bridge.cli.common import local_grpc_server, local_server


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(app, arguments, env=env)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """A port where nothing listens."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_the_version_is_printed(asked: str) -> None:
    result = run(asked)
    assert result.exit_code == 0
    assert result.stdout == f"{bridge.__version__}\n"


def test_without_a_command_the_commands_are_listed() -> None:
    result = run()
    for command in (
        "serve",
        "doctor",
        "chat",
        "models",
        "pool",
        "logs",
        "usage",
        "protos",
        "version",
    ):
        assert command in result.output


@pytest.mark.parametrize(
    "command", [("serve",), ("chat", "hi"), ("models",), ("pool",), ("logs",), ("keys", "list")]
)
def test_a_bad_variable_is_named_and_ends_the_command_with_2(command: tuple[str, ...]) -> None:
    result = run(*command, PORT="http", POOL_SIZE="0")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.split()[:2] for line in lines] == [["bridge:", "PORT"], ["bridge:", "POOL_SIZE"]]
    assert result.stdout == ""


def test_a_bad_flag_ends_the_command_with_2_too() -> None:
    for flag, value in (("--port", "70000"), ("--port", "http"), ("--timeout", "soon")):
        result = run("serve", flag, value)
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert f"({flag}) is '{value}', but must be " in line


def test_settings_that_do_not_fit_together_are_named() -> None:
    result = run("serve", BRIDGE_MAX_PROCESSES="1")
    assert result.exit_code == 2
    assert result.stderr == (
        "bridge: BRIDGE_MAX_PROCESSES is 1, but must be at least POOL_SIZE (3).\n"
    )


@pytest.mark.parametrize(
    "command",
    [("chat", "hi"), ("chat", "hi", "--grpc"), ("models",), ("models", "--grpc"), ("pool",)],
)
def test_without_a_server_one_line_has_the_remedy(command: tuple[str, ...], nobody: str) -> None:
    result = run(*command, PORT=nobody, GRPC_PORT=nobody)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("bridge: ")
    assert f"127.0.0.1:{nobody}" in line
    assert "bridge serve" in line
    # It may run without its gRPC API.
    assert ("with the gRPC API" in line) is ("--grpc" in command or "pool" in command)


def test_an_address_that_is_given_goes_before_the_settings(nobody: str) -> None:
    result = run("chat", "hi", "--url", f"http://127.0.0.1:{nobody}", PORT="1")
    assert f"127.0.0.1:{nobody}" in result.stderr


def test_an_address_may_end_in_v1_as_other_clients_want_it(nobody: str) -> None:
    result = run("chat", "hi", "--url", f"http://127.0.0.1:{nobody}/v1/")
    assert f"No answer from http://127.0.0.1:{nobody} (" in result.stderr


@pytest.mark.parametrize(
    ("command", "written", "remedy"),
    [
        (("models",), "localhost:8000", "use http://localhost:8000"),
        (("models", "--grpc"), "http://localhost:50051", "use HOST:PORT, without http://"),
        (("pool",), "http://localhost:50051", "use HOST:PORT, without http://"),
    ],
)
def test_an_address_of_the_other_api_s_form_is_put_right(
    command: tuple[str, ...], written: str, remedy: str
) -> None:
    result = run(*command, "--url", written)
    assert result.exit_code == 1
    assert remedy in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]")],
)
def test_the_server_is_reached_at_the_configured_address(
    host: str, reached: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"HOST": host, "PORT": "7", "GRPC_PORT": "8"}.items():
        monkeypatch.setenv(name, value)
    assert str(local_server()) == f"http://{reached}:7"
    assert str(local_grpc_server()) == f"{reached}:8"


def test_the_shell_is_offered_the_commands() -> None:
    env = {
        **os.environ,
        "_BRIDGE_COMPLETE": "complete_bash",
        "COMP_WORDS": "bridge do",
        "COMP_CWORD": "1",
    }
    result = CliRunner().invoke(app, ["--show-completion", "bash"], prog_name="bridge")
    assert result.exit_code == 0, result.output
    assert "_BRIDGE_COMPLETE=complete_bash" in result.stdout
    completed = subprocess.run(
        [sys.executable, "-c", "from bridge.cli import app; app(prog_name='bridge')"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert completed.stdout.split() == ["doctor"]
