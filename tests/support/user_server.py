"""A bridge that serves as in production, with a user's own folders, on a test's simulator."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from bridge.core.claude.processes.launch import NO_EXTRAS
from bridge.server.supervisor import FrontEnds, serving
from bridge.simulator import Simulator
from bridge.simulator.proxy import Proxy
from tests.support.certificates import certificate
from tests.support.harness import LoopThread, RunningBridge, settings_for_tests

HOSTS = ("platform.claude.com", "api.anthropic.com")
NOTHING_MORE = MappingProxyType({NO_EXTRAS: "1"})


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
def everything_reaches(
    simulator: Simulator, home: Path, loop: LoopThread
) -> Iterator[dict[str, str]]:
    """Variables with which the CLI does all that it does for a user, whatever host it calls."""
    authority = certificate("authority")
    trusted, _ = authority.write(home, "authority")
    pair = certificate(HOSTS[0], also=HOSTS, signed_by=authority).write(home, "leaf")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    proxy = Proxy(simulator.port, context)
    loop.call(proxy.__aenter__())
    try:
        yield {
            "HTTPS_PROXY": proxy.url,
            "NO_PROXY": "127.0.0.1",
            NO_EXTRAS: "",
            "NODE_EXTRA_CA_CERTS": str(trusted),
        }
    finally:
        loop.call(proxy.__aexit__(None, None, None))


@contextmanager
def user_bridge(
    home: Path,
    loop: LoopThread,
    simulator: Simulator,
    variables: Mapping[str, str] = NOTHING_MORE,
    **settings: Any,
) -> Iterator[UserBridge]:
    """Serve as the user with this home folder and these more variables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("DISABLE_TELEMETRY", "1")
        for name, value in variables.items():
            patch.setenv(name, value)
        bridge = UserBridge(settings_for_tests(home / "state", **settings), loop, simulator)
        bridge.start()
        try:
            yield bridge
        finally:
            bridge.stop()
