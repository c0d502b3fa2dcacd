from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.harness import LoopThread, RunningBridge
from tests.system.proxies.recipes import Proxy, bridge_for_proxies, proxied


@pytest.fixture(scope="module")
def behind(
    tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread
) -> Iterator[RunningBridge]:
    """The bridge of a module, behind its proxies."""
    running = bridge_for_proxies(tmp_path_factory.mktemp("state"), loop_thread, pool_size=4)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def envoy(behind: RunningBridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with proxied("envoy", behind, tmp_path_factory.mktemp("envoy")) as running:
        yield running
