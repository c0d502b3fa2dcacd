"""The examples work as separate programs against a whole bridge."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
INSTALL_SECONDS = 300


def run(command: list[str], folder: Path, **variables: str) -> str:
    """Run a program that must end well; gives what it prints."""
    local = {"no_proxy": "127.0.0.1", "no_grpc_proxy": "127.0.0.1"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **local, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tool_prompt(marker: str) -> str:
    """Make the model add 19 and 23 by the tool, and then say so."""
    call = {"tools": [{"name": "add", "input": {"a": 19, "b": 23}}]}
    return f"{marker} " + sim(turns=[call, {"text": "It is 42."}])


def results_seen(bridge: RunningBridge, marker: str) -> list[str]:
    """The tool results in what last reached the model."""
    (*_, last) = bridge.simulator.ledger.exchanges(containing=marker)
    blocks = [block for message in last.messages for block in message["content"]]
    return [
        block["content"][0]["text"]
        for block in blocks
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]


def test_python_sync(bridge: RunningBridge, tmp_path: Path) -> None:
    prompt = sim(text="It scatters light.")
    command = [sys.executable, str(EXAMPLES / "python_sync.py"), prompt, bridge.target]
    assert run(command, tmp_path) == "It scatters light.\n"


def test_python_async(bridge: RunningBridge, tmp_path: Path) -> None:
    marker = uuid.uuid4().hex
    command = [
        sys.executable,
        str(EXAMPLES / "python_async.py"),
        tool_prompt(marker),
        "And then? " + sim(text="84."),
    ]
    assert run(command, tmp_path, BRIDGE_TARGET=bridge.target) == "It is 42.\n84.\n"
    assert results_seen(bridge, marker) == ["42"]


def test_python_openai(bridge: RunningBridge, tmp_path: Path) -> None:
    prompt = sim(text="It scatters light.")
    command = [sys.executable, str(EXAMPLES / "python_openai.py"), prompt]
    assert run(command, tmp_path, BRIDGE_URL=f"{bridge.url}/v1") == "It scatters light.\n"


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example for Node with its packages, where they can be had."""
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        pytest.skip("Node is not installed")
    folder = tmp_path_factory.mktemp("node")
    for name in ("client.mjs", "package.json"):
        shutil.copy(EXAMPLES / "node" / name, folder)
    bridge_command = Path(sys.executable).with_name("bridge")
    subprocess.run([bridge_command, "protos", folder / "protos"], check=True, capture_output=True)
    installed = EXAMPLES / "node" / "node_modules"
    if installed.is_dir():
        shutil.copytree(installed, folder / "node_modules", symlinks=True)
        return folder
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm install took longer than {INSTALL_SECONDS} seconds")
    if done.returncode != 0:
        pytest.skip(f"npm could not install the packages: {done.stderr.strip()[-300:]}")
    return folder


def test_node(bridge: RunningBridge, node_folder: Path) -> None:
    marker = uuid.uuid4().hex
    prompt = sim(text="It scatters light.")
    command = ["node", "client.mjs", bridge.target, prompt, tool_prompt(marker)]
    printed = run(command, node_folder)
    assert printed.splitlines() == [
        "It scatters light.",
        "FINISH_REASON_STOP",
        "add(19, 23)",
        "It is 42.",
    ]
    assert results_seen(bridge, marker) == ["42"]


SECRET = "sk-examples-0123456789"


@pytest.fixture(scope="module")
def locked(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    """A bridge whose APIs ask for a key."""
    state = tmp_path_factory.mktemp("locked")
    running = RunningBridge(
        settings_for_tests(state, bridge_api_keys=f"examples={SECRET}"), loop_thread
    )
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("name", ["python_openai", "python_sync", "python_async"])
def test_each_sends_the_key_that_the_server_asks_for(
    locked: RunningBridge, tmp_path: Path, name: str
) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), sim(text="It scatters light.")]
    if name == "python_sync":
        command.append(locked.target)
    places = {"BRIDGE_TARGET": locked.target, "BRIDGE_URL": f"{locked.url}/v1"}
    printed = run(command, tmp_path, BRIDGE_API_KEY=SECRET, **places)
    assert printed == "It scatters light.\n"


def test_node_sends_the_key_that_the_server_asks_for(
    locked: RunningBridge, node_folder: Path
) -> None:
    prompt = sim(text="It scatters light.")
    command = ["node", "client.mjs", locked.target, prompt, tool_prompt(uuid.uuid4().hex)]
    assert run(command, node_folder, BRIDGE_API_KEY=SECRET).splitlines()[-1] == "It is 42."
