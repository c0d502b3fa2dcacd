"""The basis of many tests: a whole bridge in its own thread, on the simulator.

The CLI in between is the real one, in a hermetic environment. Waiting is always for an event,
with a generous limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bridge.core.claude.capabilities import ALL, Capabilities
from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.contract.events import (
    Event,
    Finished,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.request import (
    CompletionRequest,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
)
from bridge.core.contract.usage import Usage
from bridge.core.engine.engine import Engine, EngineOptions
from bridge.core.pool.policy import PoolLimits
from bridge.core.telemetry.session_log import SessionLog
from bridge.server.launching import bundled_cli
from bridge.server.settings import Settings
from bridge.server.supervisor import Bridge, FrontEnds, serving
from bridge.simulator import Exchange, Simulator

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
        # It may have been stopped before.
        self._stop.clear()
        self._task = asyncio.create_task(self._serve(ready))
        waiting = asyncio.create_task(ready.wait())
        # Whichever comes first: a server, or the reason why there is none.
        await asyncio.wait((self._task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            waiting.cancel()
            await self._task

    async def _serve(self, ready: asyncio.Event) -> None:
        # In one task from the start to the end, as cancel scopes want it.
        async with serving(self.settings, FrontEnds(demo=True)) as bridge:
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
        """The HTTP API, without /v1."""
        return f"http://127.0.0.1:{self.bridge.http_port}"

    @property
    def target(self) -> str:
        """The gRPC API."""
        return f"127.0.0.1:{self.bridge.grpc_port}"

    @property
    def log_path(self) -> Path:
        """The session log, with all that has ended so far."""
        self.call(self.bridge.service.booked)
        self.bridge.log.flush()
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
                not any(
                    counts[state]
                    for state in ("starting", "preparing", "running", "resetting", "closing")
                )
            )
        )


def settings_for_tests(state: Path, **changes: Any) -> Settings:
    """Settings on free ports that keep everything in `state`."""
    base: dict[str, Any] = {"port": 0, "grpc_port": 0, "pool_size": 2, "bridge_state_dir": state}
    return Settings(**{**base, **changes})


@dataclass(frozen=True)
class RunningEngine:
    """An engine on its own simulator, without APIs."""

    engine: Engine
    simulator: Simulator
    log: SessionLog
    log_path: Path
    caller: str = ""
    """Whose requests these are, where a test does not say."""

    async def ask(self, *messages: Message, **options: Any) -> Answer:
        """Complete once and gather the answer."""
        request_id = uuid.uuid4().hex
        options.setdefault("caller", self.caller)
        request = CompletionRequest(messages=messages, request_id=request_id, **options)
        answer = Answer()
        async with aclosing(self.engine.complete(request)) as events:
            async for event in events:
                answer.add(event)
        await self.engine.booked()
        (answer.record,) = [line for line in self.records() if line["request_id"] == request_id]
        return answer

    def records(self) -> list[dict[str, Any]]:
        """The session log."""
        self.log.flush()
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]

    def upstream(self, containing: str) -> list[Exchange]:
        """What reached the model with this text in it, oldest first."""
        return list(self.simulator.ledger.exchanges(containing=containing))

    async def settled(self) -> None:
        """Wait until no process is on its way from one state to another."""
        passing = ("starting", "preparing", "running", "resetting", "closing")
        await asyncio.wait_for(
            self.engine.pool.wait_for(lambda counts: not any(counts[state] for state in passing)),
            PATIENCE,
        )


@dataclass
class Answer:
    """An answer, gathered."""

    text: str = ""
    thinking: str = ""
    calls: list[ToolCallPart] = field(default_factory=list)
    model: str = ""
    ignored: tuple[str, ...] = ()
    reason: str = ""
    usage: Usage = field(default_factory=Usage)
    record: dict[str, Any] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        match event:
            case Started(model, ignored):
                self.model, self.ignored = model, ignored
            case TextDelta(text):
                self.text += text
            case ThinkingDelta(text):
                self.thinking += text
            case ToolCallStart(_, id, name):
                self.calls.append(ToolCallPart(id, name, ""))
            case ToolCallDelta(index, arguments):
                call = self.calls[index]
                self.calls[index] = replace(call, arguments=call.arguments + arguments)
            case Finished(reason, usage):
                self.reason, self.usage = reason, usage

    @property
    def session(self) -> str:
        """How the session was got."""
        return str(self.record["session"])

    @property
    def message(self) -> Message:
        """The answer as a client sends it back."""
        text = (TextPart(self.text),) if self.text else ()
        return Message(Role.ASSISTANT, (*text, *self.calls))


def user(*parts: str | Part) -> Message:
    return Message(Role.USER, tuple(TextPart(p) if isinstance(p, str) else p for p in parts))


def assistant(*parts: str | Part) -> Message:
    return Message(Role.ASSISTANT, tuple(TextPart(p) if isinstance(p, str) else p for p in parts))


def sim(**directive: Any) -> str:
    """A directive for the simulator, to be put into a prompt."""
    return f"[[sim {json.dumps(directive)}]]"


@asynccontextmanager
async def running_engine(
    folder: Path,
    limits: PoolLimits | None = None,
    *,
    cli: Path | None = None,
    capabilities: Capabilities = ALL,
    **options: Any,
) -> AsyncIterator[RunningEngine]:
    """An engine on a simulator, with the real CLI unless another is given.

    `options` are those of EngineOptions.
    """
    log_path = folder / "log.jsonl"
    async with Simulator(pace_ms=0) as simulator:
        log = SessionLog(log_path)
        launcher = Launcher(
            cli or bundled_cli(),
            hermetic_environment(os.environ, folder, simulator.base_url),
            folder,
        )
        engine = Engine(
            launcher,
            EngineOptions(limits or PoolLimits(2, 8, 2), **options),
            log,
            capabilities=capabilities,
        )
        async with engine:
            yield RunningEngine(engine, simulator, log, log_path)
        log.close()


SCALE = int(os.environ.get("BRIDGE_TEST_SCALE", "1"))
"""How many times the usual counts a run is for: 1 in `make test`, 10 in `make test-long`."""

LONG = pytest.mark.skipif(SCALE < 10, reason="takes long: part of make test-long")
"""For tests that cost many seconds and show once more what a cheaper one shows."""
