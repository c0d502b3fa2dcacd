from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness import RunningEngine, running_engine


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningEngine]:
    """One engine for the tests of a module that need nothing special of it."""
    async with running_engine(tmp_path_factory.mktemp("engine")) as running:
        yield running
