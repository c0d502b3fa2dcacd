"""The bridge is killed (SIGKILL), and no CLI process stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.simulator import Simulator
from tests.integration.cli.test_serve import Served, alive, children_of, served, streaming
from tests.support.claude.lacking import cli_without
from tests.support.harness import PATIENCE, LoopThread, sim

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
# As on a system without a death signal.
WATCHDOG_ALONE = """
from bridge.core.system import orphan_guard
orphan_guard.death_signal = tuple
from bridge.cli import main
main()
"""


@pytest.fixture(scope="module")
def upstream(loop_thread: LoopThread) -> Iterator[str]:
    """A simulated model that outlives the bridge, so that a turn really continues."""
    simulator = Simulator(pace_ms=0)
    loop_thread.call(simulator.start())
    yield simulator.base_url
    loop_thread.call(simulator.aclose())


@contextmanager
def serving(folder: Path, upstream: str, *, death_signal: bool) -> Iterator[Served]:
    """A bridge in front of that model."""
    env = {
        "ANTHROPIC_BASE_URL": upstream,
        "CLAUDE_CODE_OAUTH_TOKEN": "simulated",
        "POOL_SIZE": "2",
        "BRIDGE_SYSTEM_PROMPT": "none",
    }
    program = () if death_signal else (sys.executable, "-c", WATCHDOG_ALONE)
    with served(folder, "--http", program=program, **env) as running:
        yield running


def ask(url: str, prompt: str, **more: Any) -> dict[str, Any]:
    body = {"model": "default", "messages": [{"role": "user", "content": prompt}], **more}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def wait_for_states(url: str, **wanted: int) -> None:
    """Wait until so many processes are in these states."""
    until = time.monotonic() + PATIENCE
    while True:
        states = httpx.get(f"{url}/health", timeout=PATIENCE).json()["pool"]["processes"]
        if wanted.items() <= states.items():
            return
        assert time.monotonic() < until, states
        time.sleep(0.01)


def children(pid: int) -> tuple[set[int], set[int]]:
    """The CLI processes of a bridge, and its watchdog."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    commands = [line.split(None, 1) for line in listing.splitlines()]
    own = children_of(pid)
    of_it = {int(child): " ".join(args) for child, *args in commands if int(child) in own}
    return (
        {child for child, args in of_it.items() if "_bundled/claude" in args},
        {child for child, args in of_it.items() if "orphan_watchdog" in args},
    )


def first_children(running: Served) -> set[int]:
    """What a bridge has started when its first CLI process is there."""
    while True:
        assert running.process.poll() is None
        processes, watchdogs = children(running.process.pid)
        if processes:
            return processes | watchdogs


def left_after(pids: set[int], limit: float = PATIENCE) -> set[int]:
    """Those that have not ended within the limit."""
    until = time.monotonic() + limit
    while (left := {pid for pid in pids if alive(pid)}) and time.monotonic() < until:
        time.sleep(0.01)
    return left


@contextmanager
def none_left(pids: set[int]) -> Iterator[None]:
    """Within it the bridge dies; what is left of these processes is ended, and a failure."""
    assert pids
    try:
        yield
        assert not left_after(pids)
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("by", ["death signal", "watchdog"])
def test_whatever_its_processes_do(tmp_path: Path, upstream: str, by: str) -> None:
    if by == "death signal" and sys.platform != "linux":
        pytest.skip("Linux alone has a death signal")
    with serving(tmp_path, upstream, death_signal=by == "death signal") as running:
        url = running.wait_for(r"(http://127\.0\.0\.1:\d+)/v1")[1]
        running.wait_for("warm")
        # In the middle of an answer, and usually: parked for the next message and for results,
        # idle, and blank.
        ask(url, sim(text="one"))
        ask(url, sim(tools=[{"name": "f"}]), tools=[TOOL])
        with streaming(url, sim(endless=True, delay_ms=20)) as lines:
            wait_for_states(url, running=1, starting=0, preparing=0, resetting=0, closing=0)
            processes, watchdogs = children(running.process.pid)
            assert len(processes) > 2
            with none_left(processes | watchdogs):
                if by == "death signal":
                    (watchdog,) = watchdogs
                    os.kill(watchdog, signal.SIGKILL)
                running.process.kill()
                with pytest.raises(httpx.RemoteProtocolError):
                    list(lines)


def test_in_the_middle_of_a_start(tmp_path: Path, upstream: str) -> None:
    with (
        serving(tmp_path, upstream, death_signal=True) as running,
        none_left(first_children(running)),
    ):
        running.process.kill()


def test_while_it_finds_out_what_the_cli_can_do(tmp_path: Path) -> None:
    mine = {"BRIDGE_CLAUDE_PATH": str(cli_without(tmp_path))}
    with served(tmp_path, "--demo", "--http", **mine) as running:
        running.wait_for("checking which features .* has")
        with none_left(first_children(running)):
            running.process.kill()
