"""A service that behaves: it streams what a script says, and notes how it was left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import TypeAlias

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
from bridge.core.contract.service import Health, HealthStatus, Model, PoolState, Totals
from bridge.core.contract.usage import Usage
from bridge.core.validation import validate

USAGE = Usage(
    input_tokens=3,
    cache_read_tokens=20,
    cache_write_tokens=100,
    output_tokens=7,
    thinking_tokens=2,
)
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


class Gate:
    """A place in a script where the service waits until it is let through."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


Step: TypeAlias = Event | Exception | Gate | float


class FakeService:
    """Answers every request by the same script: events, errors, gates to wait at, and seconds."""

    def __init__(self, *script: Step, health: Health | None = None) -> None:
        self.script = script or HELLO
        self.requests: list[CompletionRequest] = []
        self.closed = threading.Event()
        """Set once the generator has ended, however it did, with all that it does then."""
        self.models_gate: Gate | None = None
        self._health = health or Health(
            HealthStatus.OK,
            True,
            "subscription",
            "2.1.0",
            pool_size=3,
            processes={"idle": 2},
            waiting=1,
        )
        self._models = (
            Model("opus", "claude-opus-5", default=True),
            Model("anthropic/claude-opus-5", "claude-opus-5"),
        )

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        validate(request)
        self.requests.append(request)
        try:
            for step in self.script:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, Gate):
                    step.reached.set()
                    await step.opened.wait()
                elif isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    yield step
        finally:
            # Letting go takes a moment, as with a real process.
            await asyncio.sleep(0)
            self.closed.set()

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """Nobody keeps a log."""

    async def models(self, caller: str = "") -> tuple[Model, ...]:
        if self.models_gate is not None:
            self.models_gate.reached.set()
            await self.models_gate.opened.wait()
        return self._models

    async def model(self, name: str, caller: str = "") -> Model:
        for model in self._models:
            if model.id == name:
                return model
        raise ModelNotFoundError(f"There is no model '{name}'.")

    def health(self) -> Health:
        return self._health

    def pool_state(self) -> PoolState:
        return PoolState(self._health, 6, Totals())

    async def watch_pool(self) -> AsyncGenerator[PoolState, None]:
        yield self.pool_state()
