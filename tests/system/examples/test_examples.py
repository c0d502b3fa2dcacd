"""The examples work as separate programs against a whole bridge."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from tests.support.harness import PATIENCE, LoopThread, RunningBridge, settings_for_tests, sim
from tests.system.examples.conftest import EXAMPLES

OVER_GRPC = ["python_sync", "python_async", "typescript"]


def command_of(name: str, request: pytest.FixtureRequest) -> tuple[str, ...]:
    if name == "typescript":
        return ("node", str(request.getfixturevalue("typescript")))
    return (sys.executable, str(EXAMPLES / f"{name}.py"))


def run(
    command: tuple[str, ...], bridge: RunningBridge, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "BRIDGE_API_KEY"}
    local = {"NO_PROXY": "127.0.0.1", "BRIDGE_TARGET": bridge.target}
    return subprocess.run(
        command,
        env={**environment, **local, "BRIDGE_URL": f"{bridge.url}/v1", **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def prompts(marker: str) -> tuple[str, str, str]:
    """An answer; one after a call, made only if a tool is required; one that does not end."""
    return (
        sim(text="It scatters light."),
        f"{marker} " + sim(turns=[{}, {"text": "It is 0."}]),
        f"{marker} " + sim(text="Once", hang_after="content"),
    )


def results_seen(bridge: RunningBridge, marker: str) -> list[str]:
    """The tool results in what reached the model."""
    return [
        block["content"][0]["text"]
        for exchange in bridge.simulator.ledger.exchanges(containing=marker)
        for message in exchange.messages
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]


SECRET = "sk-examples-0123456789"


@pytest.fixture(scope="module")
def bridge(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    """A bridge whose APIs require a key, which every example sends."""
    state = tmp_path_factory.mktemp("state")
    running = RunningBridge(
        settings_for_tests(state, bridge_api_keys=f"examples={SECRET}"), loop_thread
    )
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize("name", OVER_GRPC)
def test_it_streams_runs_a_tool_and_cancels(
    bridge: RunningBridge, name: str, request: pytest.FixtureRequest
) -> None:
    marker = uuid.uuid4().hex
    command = (*command_of(name, request), *prompts(marker))
    ran = run(command, bridge, BRIDGE_API_KEY=SECRET)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "It scatters light.",
        'add({"a": 0, "b": 0}) = 0',
        "It is 0.",
        "Once… CANCELLED",
    ]
    assert results_seen(bridge, marker) == ["0"]
    # The answer itself is cancelled, not only the reading of it.
    bridge.simulator.ledger.wait_for(
        lambda seen: any(e.ended == "client_closed" and e.contains(marker) for e in seen), PATIENCE
    )


@pytest.mark.parametrize("name", OVER_GRPC)
def test_it_explains_an_error(
    bridge: RunningBridge, name: str, request: pytest.FixtureRequest
) -> None:
    ran = run(command_of(name, request), bridge)
    assert ran.returncode == 1
    assert "(INVALID_API_KEY, retryable: false)" in ran.stderr


def test_it_streams_over_http(bridge: RunningBridge, request: pytest.FixtureRequest) -> None:
    command = (*command_of("python_openai", request), sim(text="It scatters light."))
    ran = run(command, bridge, BRIDGE_API_KEY=SECRET)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "It scatters light.\n"
