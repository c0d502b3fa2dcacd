"""What many tests stand on: a whole bridge in a thread of its own, on the simulator.

The CLI in between is the real one, in a hermetic environment. Waiting is always for an event,
with a generous limit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from bridge.settings import Settings
from bridge.simulator import Simulator
from bridge.supervisor import Bridge, Doors, serving

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds after which a wait counts as failed; no test comes near it when all is well."""


class LoopThread:
    """An event loop in a thread, for servers that synchronous tests talk to.

    One for all of them: grpc.aio has one completion queue a process, and what is still on it
    for a loop that was closed would fail in another.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def close(self) -> None:
        self.call(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


class RunningBridge:
    """A bridge that serves on the loop of a `LoopThread`, from `start` to `stop`."""

    def __init__(self, settings: Settings, loop: LoopThread) -> None:
        self.settings = settings
        self._loop = loop
        self._bridge: Bridge | None = None
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop.call(self._start())

    def stop(self) -> None:
        self._loop.call(self._end())

    async def _start(self) -> None:
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._serve(ready))
        waiting = asyncio.create_task(ready.wait())
        # Whichever comes first: a server, or the reason why there is none.
        await asyncio.wait((self._task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            waiting.cancel()
            await self._task

    async def _serve(self, ready: asyncio.Event) -> None:
        # In one task from the start to the end, as cancel scopes want it.
        async with serving(self.settings, Doors(demo=True)) as bridge:
            self._bridge = bridge
            ready.set()
            await self._stop.wait()

    async def _end(self) -> None:
        self._stop.set()
        if self._task is not None:
            await asyncio.wait((self._task,))

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the bridge's own loop."""
        return self._loop.call(work())

    @property
    def bridge(self) -> Bridge:
        assert self._bridge is not None
        return self._bridge

    @property
    def simulator(self) -> Simulator:
        assert self.bridge.simulator is not None
        return self.bridge.simulator

    @property
    def url(self) -> str:
        """The HTTP door, without /v1."""
        return f"http://127.0.0.1:{self.bridge.http_port}"

    @property
    def target(self) -> str:
        """The gRPC door."""
        return f"127.0.0.1:{self.bridge.grpc_port}"

    @property
    def log_path(self) -> Path:
        return self.settings.bridge_state_dir / "sessions.jsonl"

    def wait_for_processes(self, condition: Callable[[dict[str, int]], bool]) -> None:
        """Wait until the counts of processes by state meet the condition."""

        async def wait() -> None:
            await asyncio.wait_for(self.bridge.engine.pool.wait_for(condition), PATIENCE)

        self.call(wait)

    def wait_until_settled(self) -> None:
        """Wait until no process is starting, running, being reset or being closed."""
        self.wait_for_processes(
            lambda counts: (
                not any(counts[state] for state in ("starting", "running", "resetting", "closing"))
            )
        )


def settings_for_tests(state: Path, **changes: Any) -> Settings:
    """Settings on free ports that keep everything in `state`."""
    base: dict[str, Any] = {"port": 0, "grpc_port": 0, "pool_size": 2, "bridge_state_dir": state}
    return Settings(**{**base, **changes})
