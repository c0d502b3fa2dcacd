"""A bridge that serves as in production, with a user's own folders, on a test's simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.server.supervisor import FrontEnds, serving
from bridge.simulator import Simulator
from tests.support.harness import LoopThread, RunningBridge, settings_for_tests


class UserBridge(RunningBridge):
    """Like RunningBridge, with nothing hermetic between the user's folders and the CLI."""

    def __init__(self, settings: Any, loop: LoopThread, simulator: Simulator) -> None:
        super().__init__(settings, loop)
        self._simulator = simulator

    @property
    def simulator(self) -> Simulator:
        return self._simulator

    async def _serve(self, ready: asyncio.Event) -> None:
        async with serving(self.settings, FrontEnds()) as bridge:
            self._bridge = bridge
            ready.set()
            await self._stop.wait()


@contextmanager
def running_simulator(loop: LoopThread) -> Iterator[Simulator]:
    """The model's API, on the loop of the bridges."""
    simulator = Simulator(pace_ms=0)
    loop.call(simulator.__aenter__())
    try:
        yield simulator
    finally:
        loop.call(simulator.__aexit__(None, None, None))


@contextmanager
def user_bridge(
    home: Path, loop: LoopThread, simulator: Simulator, **settings: Any
) -> Iterator[UserBridge]:
    """Serve as the user with this home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("DISABLE_TELEMETRY", "1")
        patch.setenv("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        bridge = UserBridge(settings_for_tests(home / "state", **settings), loop, simulator)
        bridge.start()
        try:
            yield bridge
        finally:
            bridge.stop()
