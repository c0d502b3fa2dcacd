"""A clean checkout builds a wheel without any other step, and the wheel works by itself.

These tests need a package index, as every installation does: without one they fail.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.harness import SCALE
from tests.support.paths import ROOT

INSTALL_SECONDS = 900
"""For what may have to download the Agent SDK."""
ANSWER_SECONDS = 120
"""For what boots a CLI on a busy machine."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone would have: nothing generated, nothing installed."""
    target = tmp_path_factory.mktemp("checkout")
    # The folder may belong to another user than the current one, as in a container.
    listing = _run(
        *("git", "-c", "safe.directory=*", "ls-files", "-coz", "--exclude-standard"), cwd=ROOT
    )
    for name in filter(None, listing.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    return target


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `pip install .` builds it: in an isolated environment."""
    out = tmp_path_factory.mktemp("wheel")
    _pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(out), str(checkout))
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment that holds the wheel and what the runtime lock pins; its bin folder."""
    home = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", str(home))
    python = str(home / "bin" / "python")
    lock = ROOT / "requirements" / "runtime.lock"
    _install(python, "--require-hashes", "-r", str(lock))
    _install(python, "--no-deps", "--no-index", str(wheel))
    yield home / "bin"
    shutil.rmtree(home)  # pytest would keep the last three, of hundreds of megabytes each


def test_the_wheel_has_the_stubs_and_the_types(wheel: Path) -> None:
    names = _names(wheel)

    for proto in (ROOT / "proto" / "bridge" / "v1").glob("*.proto"):
        for end in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi"):
            assert f"bridge/v1/{proto.stem}{end}" in names
    assert "bridge/v1/completion_pb2_grpc.py" in names
    assert "bridge/py.typed" in names


def test_the_wheel_has_nothing_else(wheel: Path) -> None:
    assert {name.split("/")[0] for name in _names(wheel)} == {
        "bridge",
        "claude_code_bridge-" + wheel.name.split("-")[1] + ".dist-info",
    }


def test_the_sdist_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    _run(
        *(sys.executable, "-m", "hatchling", "build", "--target", "sdist"),
        *("--directory", str(tmp_path)),
        cwd=checkout,
    )
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    _pip(
        *(sys.executable, "wheel", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", str(tmp_path), str(sdist)),
    )
    (rebuilt,) = tmp_path.glob("*.whl")

    assert {"hatch_build.py", "LICENSE", "bridge/v1/completion_pb2.py"} <= members
    assert _names(rebuilt) == _names(wheel)


def test_the_installed_stubs_can_be_imported(environment: Path, tmp_path: Path) -> None:
    code = "import bridge.v1.completion_pb2_grpc as stubs; print(stubs.__file__)"

    output = _run(str(environment / "python"), "-W", "error", "-c", code, cwd=tmp_path)

    assert Path(output.strip()).is_relative_to(environment.parent)


def test_the_installed_command_prints_its_version(
    environment: Path, wheel: Path, tmp_path: Path
) -> None:
    output = _run(str(environment / "bridge"), "version", cwd=tmp_path)

    assert wheel.name.split("-")[1] in output


def test_the_installed_command_serves(environment: Path, tmp_path: Path) -> None:
    with _serving(environment, tmp_path) as (server, url):
        health = _fetch(f"{url}/health")
        model = _fetch(f"{url}/v1/models")["data"][0]["id"]
        messages = [{"role": "user", "content": "Hello"}]
        answer = _fetch(f"{url}/v1/chat/completions", {"model": model, "messages": messages})
        server.send_signal(signal.SIGTERM)
        status = server.wait(ANSWER_SECONDS)

    assert health["status"] == "ok"
    assert answer["choices"][0]["message"]["content"]
    assert status == 0


@contextmanager
def _serving(environment: Path, cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running `bridge serve --demo` and its address, once it is ready."""
    http, grpc = _free_ports(2)
    url = f"http://127.0.0.1:{http}"
    with subprocess.Popen(
        [str(environment / "bridge"), "serve", "--demo", "--http", "--grpc"],
        cwd=cwd,
        env=_environ() | {"PORT": str(http), "GRPC_PORT": str(grpc)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        # Read to the end, since a full pipe would stop the server.
        output = _Output(server.stdout, url)
        output.start()
        try:
            assert output.settled.wait(ANSWER_SECONDS), f"not ready in time:\n{output.text}"
            assert url in output.text, f"ended before it was ready:\n{output.text}"
            yield server, url
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            output.join()


class _Output(threading.Thread):
    """The output of a process; settled once it contains the awaited words, or has ended."""

    def __init__(self, stream: IO[str], awaited: str) -> None:
        super().__init__(daemon=True)
        self.text = ""
        self.settled = threading.Event()
        self._stream = stream
        self._awaited = awaited

    def run(self) -> None:
        for line in self._stream:
            self.text += line
            if self._awaited in line:
                self.settled.set()
        self.settled.set()


def _fetch(url: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(url, headers={"Content-Type": "application/json"})
    if body is not None:
        request.data = json.dumps(body).encode()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=ANSWER_SECONDS) as response:
        return json.load(response)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _pip(python: str, *arguments: str) -> None:
    _run(python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def _install(python: str, *arguments: str) -> None:
    """Install as the Makefile does: with uv if available, in seconds; in the long run with pip."""
    uv = shutil.which("uv") if SCALE < 10 else None
    if uv is None:
        _pip(python, "install", *arguments)
    else:
        _run(uv, "pip", "install", "--quiet", "--python", python, *arguments)


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=_environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def _environ() -> dict[str, str]:
    """This environment, less what would make the new one see this one's packages or settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BRIDGE_", "PYTHON")) and name not in {"VIRTUAL_ENV", "POOL_SIZE"}
    }
