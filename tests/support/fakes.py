"""A service that behaves: it streams a script, and records how it was left."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

from bridge.core.answers.running import Answers
from bridge.core.contract.errors import ModelNotFoundError
from bridge.core.contract.events import (
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.service import DetachedAnswer, Model, OnEnd
from bridge.core.contract.states import (
    Allowances,
    Health,
    HealthStatus,
    PoolState,
    Totals,
    UsageLimits,
)
from bridge.core.contract.usage import Usage
from bridge.core.validation import validate
from tests.support.harness import PATIENCE

USAGE = Usage(
    input_tokens=3,
    cache_read_tokens=20,
    cache_write_tokens=100,
    output_tokens=7,
    thinking_tokens=2,
)
COUNTED = 123
STARTED = Started("claude-opus-5")
STOP = Finished(FinishReason.STOP, USAGE)

HELLO: tuple[Event, ...] = (STARTED, TextDelta("Hel"), TextDelta("lo"), STOP)
CALLS: tuple[Event, ...] = (
    STARTED,
    ThinkingDelta("hm"),
    ToolCallStart(0, "toolu_1", "weather"),
    ToolCallDelta(0, '{"city"'),
    ToolCallDelta(0, ': "Oslo"}'),
    ToolCallStart(1, "toolu_2", "time"),
    ToolCallDelta(1, "{}"),
    Finished(FinishReason.TOOL_CALLS, USAGE),
)
MODELS = (
    Model("opus", "claude-opus-5", "Opus", "Best", ("low", "high"), default=True),
    Model("anthropic/claude-opus-5", "claude-opus-5"),
)
HEALTH = Health(
    HealthStatus.OK,
    logged_in=True,
    account="subscription",
    cli_version="2.1.0",
    pool_size=3,
    processes={"running": 1, "parked": 2},
    waiting=1,
    lacking=("setting the effort of a process that runs",),
)
TOTALS = Totals(
    answered=5,
    failed=4,
    left=3,
    sessions={"continued": 2, "warm": 1},
    processes_started=9,
    processes_ended=6,
)


class Gate:
    """A place in a script where the service waits until it is let through."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


Step: TypeAlias = Event | BaseException | Gate | float
Script: TypeAlias = Callable[[CompletionRequest], AsyncGenerator[Event, None]]


def script_of(*steps: Step) -> Script:
    """The same for every request: events, errors, gates to wait at, and seconds."""

    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, Gate):
                step.reached.set()
                await step.opened.wait()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                yield step

    return script


hello: Script = script_of(*HELLO)
for_ever_before_the_first_event = script_of(math.inf)
for_ever_after_the_first_event = script_of(STARTED, math.inf)


class FakeService:
    """Answers every request by its script, which may be replaced at any time."""

    def __init__(self, *steps: Step, health: Health = HEALTH) -> None:
        self.script = script_of(*steps) if steps else hello
        self.requests: list[CompletionRequest] = []
        self.entered = asyncio.Event()
        self.closed = threading.Event()
        """Set once the generator has ended, however it did, with all that it does then."""
        self.models_gate: Gate | None = None
        self.status = health.status
        self.waiting = health.waiting
        self.plan: UsageLimits | None = None
        self.left = Allowances()
        self.changed = asyncio.Event()
        """Set it when what the pool says has changed."""
        self._health = health
        self.answers = Answers(self._answered, self.refused)
        """The registry is the real one."""

    async def until_closed(self) -> None:
        """Wait for `closed`."""
        assert await asyncio.to_thread(self.closed.wait, PATIENCE)

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        return self.answers.complete(request)

    def forget_ids(self) -> None:
        """Forget the ids of ended requests, which are kept for minutes."""
        self.answers = Answers(self._answered, self.refused)

    async def detach(
        self, request: CompletionRequest, on_end: OnEnd | None = None
    ) -> DetachedAnswer:
        return await self.answers.detach(request, on_end)

    async def attach(self, owner: str, id: str) -> DetachedAnswer:
        return await self.answers.attach(owner, id)

    async def cancel(self, owner: str, id: str) -> None:
        await self.answers.cancel(owner, id)

    async def forget(self, owner: str, id: str) -> bool:
        return await self.answers.forget(owner, id)

    async def _answered(
        self,
        request: CompletionRequest,
        admitted: Callable[[], None],
        cancelled: Callable[[], bool],
    ) -> AsyncGenerator[Event, None]:
        validate(request)
        admitted()
        self.requests.append(request)
        self.entered.set()
        try:
            async with aclosing(self.script(request)) as events:
                async for event in events:
                    yield event
        finally:
            # Letting go takes a moment, as with a real process.
            await asyncio.sleep(0)
            self.closed.set()

    async def count_tokens(self, request: CompletionRequest) -> int:
        validate(request)
        self.requests.append(request)
        return COUNTED

    async def allowances(self, caller: str) -> Allowances:
        return self.left

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """There is no log."""

    async def models(self, caller: str = "") -> tuple[Model, ...]:
        if self.models_gate is not None:
            self.models_gate.reached.set()
            await self.models_gate.opened.wait()
        return MODELS

    async def model(self, name: str, caller: str = "") -> Model:
        for model in MODELS:
            if model.id == name:
                return model
        raise ModelNotFoundError(f"There is no model {name!r}.", model=name)

    def health(self) -> Health:
        return replace(self._health, status=self.status, waiting=self.waiting)

    def pool_state(self) -> PoolState:
        return PoolState(self.health(), 6, TOTALS, self.plan)

    async def watch_pool(self) -> AsyncGenerator[PoolState, None]:
        try:
            while True:
                self.changed.clear()
                yield self.pool_state()
                await self.changed.wait()
        finally:
            self.closed.set()
