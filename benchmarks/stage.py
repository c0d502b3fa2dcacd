"""What scenarios run on: the simulator, a bridge, SDK clients. Whoever opens it, closes it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import Started, descendants
from benchmarks.record import SDK
from benchmarks.subjects import Direct, Grpc, Http, Sdk
from benchmarks.wire import Connection, HttpError
from bridge.core.claude import hermetic_environment

_SETTLE_SECONDS = 60.0
_POLL_SECONDS = 0.005
_UNSETTLED = ("starting", "preparing", "running", "resetting", "closing")


class Served:
    """A bridge that serves, in a process of its own."""

    def __init__(self, process: Started, http: str, grpc: str, state: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._host, port = http.rsplit(":", 1)
        self._port = int(port)
        self._target = grpc
        self._log = state / "sessions.jsonl"
        self._watch = Connection(self._host, self._port)

    def http(self, *, blanks: int = 0) -> Http:
        """The HTTP door. Off the clock it waits for so many blank processes, too."""
        return Http(self._host, self._port, partial(self.settle, blanks))

    def grpc(self, *, blanks: int = 0) -> Grpc:
        """The gRPC door."""
        return Grpc(self._target, partial(self.settle, blanks))

    def children(self) -> tuple[int, ...]:
        """Its CLI processes, and theirs."""
        return descendants(self.pid)

    async def settle(self, blanks: int = 0) -> None:
        """Wait until no process is starting, running, being reset or ended."""
        async with asyncio.timeout(_SETTLE_SECONDS):
            while True:
                counts = (await self._watch.get_json("/health"))["pool"]["processes"]
                busy = any(counts.get(state) for state in _UNSETTLED)
                if not busy and counts.get("blank", 0) >= blanks:
                    return
                await asyncio.sleep(_POLL_SECONDS)

    async def healthy(self) -> None:
        """Wait until completions can be expected to work."""
        async with asyncio.timeout(_SETTLE_SECONDS):
            while True:
                try:
                    await self._watch.get_json("/health")
                    return
                except (HttpError, OSError):
                    await asyncio.sleep(_POLL_SECONDS)

    def sessions(self, door: Http | Grpc, since: int) -> str:
        """How requests at a door got their sessions, from this line of the log on."""
        lines = [line for line in self.logged()[since:] if line["door"] == door.door]
        got = Counter(str(line["session"]) for line in lines)
        return "sessions: " + ", ".join(f"{count} {how}" for how, count in got.most_common())

    def logged(self) -> list[dict[str, Any]]:
        """The lines of its session log."""
        if not self._log.exists():
            return []
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def last_words(self) -> str:
        """The end of what it has printed."""
        return self._process.last_words

    async def stop(self) -> None:
        """End it."""
        await self._watch.aclose()
        await self._process.stop()


class Stage:
    """Holds one simulator, and one bridge at a time: idle ones would take from what is measured."""

    def __init__(self, folder: Path, *, rounds: int, quick: bool) -> None:
        self.folder = folder
        self.rounds = rounds
        self.quick = quick
        self.api = ""
        self._stack = AsyncExitStack()
        self._scene = AsyncExitStack()
        self._bridge: Served | None = None
        self._bridge_is: tuple[int, str] = (0, "")
        self._count = 0
        self._probed: Path | None = None

    async def __aenter__(self) -> Stage:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.forget_bridge()
        finally:
            await self._stack.aclose()

    @asynccontextmanager
    async def scene(self) -> AsyncIterator[None]:
        """What a scenario opens within this block is closed at its end, all but the bridge."""
        async with AsyncExitStack() as self._scene:
            yield

    def fewer(self, divisor: int) -> int:
        """Rounds for a scenario whose rounds take long, or have several samples each."""
        return max(1, self.rounds // divisor)

    async def bridge(self, pool_size: int = 3, *, until_warm: bool = True) -> Served:
        """A bridge with this POOL_SIZE: the one that runs, if it has it.

        Waits for a new one until all its processes are warm, or only until it listens.
        """
        wanted = (pool_size, self.api)
        if self._bridge is None or self._bridge_is != wanted:
            await self.forget_bridge()
            self._bridge = await self._start_bridge(pool_size, until_warm=until_warm)
            self._bridge_is = wanted
        return self._bridge

    async def doors(self, bridge: Served, *, blanks: int = 0) -> tuple[Http, Grpc]:
        """Both doors of a bridge."""
        http, grpc = bridge.http(blanks=blanks), bridge.grpc(blanks=blanks)
        self._scene.push_async_callback(http.aclose)
        self._scene.push_async_callback(grpc.aclose)
        return http, grpc

    async def sdk(self, system: str, *, name: str = SDK, clears: bool = True) -> Sdk:
        """A connected SDK client. The CLI inherits this process's environment: a hermetic one."""
        client = Sdk(system, self.folder, name=name, clears=clears)
        self._scene.push_async_callback(client.aclose)
        await client.connect()
        return client

    def direct(self) -> Direct:
        """The simulated API, called directly."""
        direct = Direct(self.api)
        self._scene.push_async_callback(direct.aclose)
        return direct

    def last_words(self) -> str:
        """What the bridge that runs has printed last."""
        return self._bridge.last_words if self._bridge is not None else ""

    @contextmanager
    def other_api(self, url: str) -> Iterator[None]:
        """Let what is started within this block call another API."""
        before, self.api = self.api, url
        os.environ["ANTHROPIC_BASE_URL"] = url
        try:
            yield
        finally:
            self.api = before
            os.environ["ANTHROPIC_BASE_URL"] = before

    async def relay_cpu(self, answers: int, tokens: int, delay_ms: float) -> float:
        """CPU seconds of a bare relay; see `benchmarks.relay`."""
        module = ("benchmarks.relay", str(answers), str(tokens), str(delay_ms))
        relay = await Started.start(module, os.environ, self.folder / "relay.log")
        try:
            port = int((await relay.printed(r"port (\d+)"))[1])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while await reader.read(65536):
                pass
            writer.close()
            return float((await relay.printed(r"used (\S+)"))[1])
        finally:
            await relay.stop()

    async def _start(self) -> None:
        env = hermetic_environment(os.environ, self.folder, "")
        simulator = await Started.start(
            ("bridge.simulator", "--port", "0", "--keep-requests", "10"),
            env,
            self.folder / "simulator.log",
        )
        self._stack.push_async_callback(simulator.stop)
        self.api = (await simulator.printed(r"http://\S+"))[0]
        # The SDK gives its CLI all of this process's environment, whatever its options say.
        before = dict(os.environ)
        self._stack.callback(_set_environment, before)
        _set_environment(hermetic_environment(os.environ, self.folder, self.api))

    async def _start_bridge(self, pool_size: int, *, until_warm: bool) -> Served:
        self._count += 1
        state = self.folder / f"bridge-{self._count}"
        state.mkdir()
        if self._probed is None:
            self._probed = state / "probe.json"
        else:
            # What the first one found out about the CLI: only a new CLI is tried.
            shutil.copy(self._probed, state)
        env = {
            **hermetic_environment(os.environ, state, self.api),
            "BRIDGE_STATE_DIR": str(state),
            "TMPDIR": str(state),
            "PORT": "0",
            "GRPC_PORT": "0",
            "POOL_SIZE": str(pool_size),
        }
        process = await Started.start(
            ("bridge", "serve", "--http", "--grpc"), env, state / "output.log"
        )
        try:
            http = (await process.printed(r"http://(\S+:\d+)/v1"))[1]
            grpc = (await process.printed(r"gRPC +(\S+:\d+)"))[1]
            if until_warm:
                await process.printed(r"\d+ Claude Code process(es are| is) warm")
        except BaseException:
            await process.stop()
            raise
        return Served(process, http, grpc, state)

    async def forget_bridge(self) -> None:
        """End the bridge that runs, if any: the next one asked for is a new one."""
        served, self._bridge = self._bridge, None
        if served is not None:
            await served.stop()


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)
