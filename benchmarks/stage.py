"""The environment of scenarios: the simulator, a bridge, SDK clients."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import Started, descendants
from benchmarks.record import SDK
from benchmarks.subjects import Direct, Grpc, Http, NodeClient, Sdk
from benchmarks.subjects.node import installed
from benchmarks.wire import Connection, HttpError
from bridge.core.claude import hermetic_environment

_SETTLE_SECONDS = 60.0
_POLL_SECONDS = 0.005
_UNSETTLED = ("starting", "preparing", "running", "resetting", "closing")


class Served:
    """A running bridge in a separate process."""

    def __init__(self, process: Started, http: str, grpc: str, state: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._host, port = http.rsplit(":", 1)
        self._port = int(port)
        self._target = grpc
        self.addresses = {"http": http, "grpc": grpc}
        self._log = state / "sessions.jsonl"
        self._watch = Connection(self._host, self._port)

    def http(self, *, blanks: int = 0) -> Http:
        """The HTTP API. Between timed parts it also waits for `blanks` blank processes."""
        return Http(self._host, self._port, partial(self.settle, blanks))

    def grpc(self, *, blanks: int = 0) -> Grpc:
        """The gRPC API."""
        return Grpc(self._target, partial(self.settle, blanks))

    def children(self) -> tuple[int, ...]:
        """Its CLI processes and their descendants."""
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

    def sessions(self, front_end: Http | Grpc, since: int) -> str:
        """How requests to a front end got their sessions, from line `since` of the log on."""
        lines = [line for line in self.logged()[since:] if line["api"] == front_end.logged_as]
        got = Counter(str(line["session"]) for line in lines)
        return "sessions: " + ", ".join(f"{count} {how}" for how, count in got.most_common())

    def logged(self) -> list[dict[str, Any]]:
        """The lines of its session log."""
        if not self._log.exists():
            return []
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def last_output(self) -> str:
        """The end of its output."""
        return self._process.last_output

    async def stop(self) -> None:
        """Stop the bridge."""
        await self._watch.aclose()
        await self._process.stop()


class Stage:
    """One simulator, and one bridge at a time: idle bridges would distort the measurement."""

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
        self._node: Path | None = None
        """Where Node's client is installed."""

    async def __aenter__(self) -> Stage:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop_bridge()
        finally:
            await self._stack.aclose()

    @asynccontextmanager
    async def scene(self) -> AsyncIterator[None]:
        """Close what a scenario opens within this block, except the bridge."""
        async with AsyncExitStack() as self._scene:
            yield

    def fewer(self, divisor: int) -> int:
        """The number of rounds for a scenario with long rounds or several samples per round."""
        return max(1, self.rounds // divisor)

    async def bridge(self, pool_size: int = 3, *, until_warm: bool = True) -> Served:
        """A bridge with this POOL_SIZE: the running one if it matches, otherwise a new one.

        Waits until all processes of a new one are warm, or only until it listens.
        """
        wanted = (pool_size, self.api)
        if self._bridge is None or self._bridge_is != wanted:
            await self.stop_bridge()
            self._bridge = await self._start_bridge(pool_size, until_warm=until_warm)
            self._bridge_is = wanted
        return self._bridge

    async def front_ends(self, bridge: Served, *, blanks: int = 0) -> tuple[Http, Grpc]:
        """The HTTP and the gRPC API of a bridge."""
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

    async def node_clients(
        self, bridge: Served, streams: int, prompt: str
    ) -> tuple[NodeClient, NodeClient]:
        """Node's clients of the HTTP and the gRPC API, each of which has asked once."""
        if self._node is None:
            self._node = await installed(self.folder)
        clients = []
        for api, name in (("http", "HTTP API"), ("grpc", "gRPC API")):
            address = bridge.addresses[api]
            client = await NodeClient.start(name, api, address, streams, prompt, self._node)
            self._scene.push_async_callback(client.aclose)
            clients.append(client)
        return clients[0], clients[1]

    def direct(self) -> Direct:
        """The simulated API, called directly."""
        direct = Direct(self.api)
        self._scene.push_async_callback(direct.aclose)
        return direct

    def last_output(self) -> str:
        """The end of the running bridge's output."""
        return self._bridge.last_output if self._bridge is not None else ""

    @contextmanager
    def other_api(self, url: str) -> Iterator[None]:
        """Use another API for everything started within this block."""
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
        # The SDK passes this process's whole environment to its CLI, whatever its options.
        before = dict(os.environ)
        self._stack.callback(_set_environment, before)
        _set_environment(hermetic_environment(os.environ, self.folder, self.api))

    async def _start_bridge(self, pool_size: int, *, until_warm: bool) -> Served:
        self._count += 1
        state = self.folder / f"bridge-{self._count}"
        state.mkdir()
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

    async def stop_bridge(self) -> None:
        """Stop the running bridge, if any; the next call of `bridge` starts a new one."""
        served, self._bridge = self._bridge, None
        if served is not None:
            await served.stop()


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)
