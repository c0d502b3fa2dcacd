"""Fixtures that several folders of tests use."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.harness import LoopThread, RunningBridge, settings_for_tests
from tests.support.redis_server import RedisServer, patient


def pytest_configure() -> None:
    """Set up the process of a worker.

    Ctrl-C reaches the commands that tests start: a job in the background ignores it, and what
    it starts inherits that.

    Compiled files are kept, whatever the environment sets: without them, each worker rewrites
    every test again, and each command that a test starts compiles the whole bridge, for seconds.
    """
    # No test depends on the speed of the machine.
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("bridge", deadline=None, suppress_health_check=slow)
    hypothesis.settings.load_profile("bridge")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


LONGEST = (
    "integration/cli/test_serve.py",
    "system/fleet/test_fleet.py",
    "system/packaging/test_wheel.py",
    "system/soak/test_soak.py",
    "system/benchmarks/test_run.py",
    "integration/faults/test_death.py",
    "integration/probe/test_fallbacks.py",
    "system/docs/test_snippets.py",
)
"""The files that take longest, whatever their number of tests."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first and the shortest last, so that all workers end together.

    xdist distributes whole files (`--dist loadfile`) in this order; its own, by the number of tests
    (`--loadscope-reorder`), leaves the slowest tests, which are alone in their files, to the end.
    """
    longest = {Path(__file__).parent / name: n for n, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in longest)
    counts = Counter(item.path for item in items)
    unit = Path(__file__).parent / "unit"

    def rank(item: pytest.Item) -> tuple[int, bool, int, str]:
        path = item.path
        place = longest.get(path, len(longest))
        return place, unit in path.parents, -counts[path], str(path)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what has been imported: a sixth of the time otherwise."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Iterator[None]:
    """Nothing that the user's own shell sets reaches a test or a process it starts."""
    prefixes = ("BRIDGE_", "ANTHROPIC_", "CLAUDE", "OPENAI_", "AWS_", "GOOGLE_")
    names = ("POOL_SIZE", "PORT", "GRPC_PORT", "HOST")
    saved = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if (name.startswith(prefixes) and name != "BRIDGE_TEST_SCALE") or name in names
    }
    yield
    os.environ.update(saved)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def _one_event_loop(anyio_backend: str) -> AsyncGenerator[None, None]:
    """Keep one loop for all async tests, for the reason that `LoopThread` has."""
    yield  # noqa: PT022 - as a generator it holds the loop to the end


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    loop = LoopThread()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def bridge(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    """One bridge for all tests that need nothing special of it: both APIs, the simulator."""
    running = RunningBridge(settings_for_tests(tmp_path_factory.mktemp("state")), loop_thread)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def start_bridge(tmp_path: Path, loop_thread: LoopThread) -> Iterator[Callable[..., RunningBridge]]:
    """Start a bridge with settings of one's own; ended with the test."""
    started: list[RunningBridge] = []

    def start(**changes: Any) -> RunningBridge:
        settings = settings_for_tests(tmp_path / f"state{len(started)}", **changes)
        running = RunningBridge(settings, loop_thread)
        running.start()
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture(autouse=True, scope="session")
def patient_with_redis() -> Iterator[None]:
    with patient:
        yield


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of one's own, which runs; skips the test where none is installed."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.close()
