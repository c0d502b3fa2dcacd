from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.support.harness import RunningEngine, running_engine


@pytest.fixture(scope="module")
async def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningEngine]:
    """One engine for the tests of a module that need no special settings."""
    async with running_engine(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture
def engine(shared_engine: RunningEngine) -> RunningEngine:
    """The same, with a different caller for each test, so that no test depends on another."""
    return replace(shared_engine, caller=uuid.uuid4().hex)
