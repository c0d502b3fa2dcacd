from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.front_ends import Apis
from tests.support.harness import LoopThread
from tests.system.fleet.fleet import Fleet, running_fleet


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory, loop_thread: LoopThread) -> Iterator[Fleet]:
    with running_fleet(tmp_path_factory.mktemp("fleet"), loop_thread) as running:
        yield running


@pytest.fixture
def fleet(standing: Fleet) -> Fleet:
    """The fleet of a module, whole before each test."""
    standing.mend()
    return standing


@pytest.fixture
async def apis(fleet: Fleet) -> AsyncIterator[Apis]:
    """Both APIs through Envoy."""
    async with fleet.envoy.proxy.connected() as connected:
        yield connected
