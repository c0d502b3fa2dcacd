"""A core that behaves: it streams what a test scripts, and tells when it is entered and closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar

import grpc

from bridge.core.contract.errors import ModelNotFoundError
from bridge.core.contract.events import Event, Finished, FinishReason, Started, TextDelta
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.service import Health, HealthStatus, Model, PoolState, Totals, UsageLimits
from bridge.core.contract.usage import Usage
from bridge.core.validation import validate
from bridge.v1 import completion_pb2 as pb
from tests.support.harness import PATIENCE

_T = TypeVar("_T")

Script: TypeAlias = Callable[[CompletionRequest], AsyncGenerator[Event, None]]

MODELS = (
    Model("opus", "claude-opus-4", "Opus", "Best", ("low", "high"), default=True),
    Model("haiku", "claude-haiku-4"),
)
STARTED = Started("claude-opus-4")
FINISHED = Finished(FinishReason.STOP, Usage(1, 2, 3, 4, 5))


async def soon(awaitable: Awaitable[_T]) -> _T:
    """Wait for what must come; the limit only keeps a broken test from hanging."""
    return await asyncio.wait_for(awaitable, PATIENCE)


async def read(call: grpc.aio.UnaryStreamCall[Any, pb.CompleteResponse]) -> pb.CompleteResponse:
    """Take the next event of an answer, which must not be its end."""
    response = await soon(call.read())
    assert isinstance(response, pb.CompleteResponse)
    return response


async def hello(request: CompletionRequest) -> AsyncGenerator[Event, None]:
    yield STARTED
    yield TextDelta("Hel")
    yield TextDelta("lo")
    yield FINISHED


async def for_ever_before_the_first_event(
    request: CompletionRequest,
) -> AsyncGenerator[Event, None]:
    await asyncio.Event().wait()
    yield STARTED


async def for_ever_after_the_first_event(
    request: CompletionRequest,
) -> AsyncGenerator[Event, None]:
    yield STARTED
    await asyncio.Event().wait()


def raising(error: BaseException, *, after: tuple[Event, ...] = ()) -> Script:
    async def script(request: CompletionRequest) -> AsyncGenerator[Event, None]:
        for event in after:
            yield event
        raise error

    return script


class FakeService:
    """A `Service` whose answers are scripted."""

    def __init__(self, script: Script = hello) -> None:
        self.script = script
        self.status = HealthStatus.OK
        self.requests: list[CompletionRequest] = []
        self.entered = asyncio.Event()
        self.closed = asyncio.Event()
        self.waiting = 0
        self.plan: UsageLimits | None = None
        self.changed = asyncio.Event()
        """Set it when what the pool tells has changed."""

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        validate(request)
        self.requests.append(request)
        self.entered.set()
        try:
            async with aclosing(self.script(request)) as events:
                async for event in events:
                    yield event
        finally:
            self.closed.set()

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """Nobody keeps a log."""

    async def models(self, caller: str = "") -> tuple[Model, ...]:
        return MODELS

    async def model(self, name: str, caller: str = "") -> Model:
        for model in MODELS:
            if name in (model.id, model.resolved):
                return model
        raise ModelNotFoundError(f"There is no model {name!r}.")

    def health(self) -> Health:
        return Health(
            self.status,
            logged_in=True,
            account="subscription",
            cli_version="2.0",
            pool_size=3,
            processes={"running": 1, "parked": 2},
            waiting=self.waiting,
            lacking=("setting the effort of a process that runs",),
        )

    def pool_state(self) -> PoolState:
        totals = Totals(
            answered=5,
            failed=4,
            left=3,
            sessions={"continued": 2, "warm": 1},
            processes_started=9,
            processes_ended=6,
        )
        return PoolState(self.health(), 6, totals, self.plan)

    async def watch_pool(self) -> AsyncGenerator[PoolState, None]:
        try:
            while True:
                self.changed.clear()
                yield self.pool_state()
                await self.changed.wait()
        finally:
            self.closed.set()


def user(text: str = "Hello?") -> pb.Message:
    return pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=text)])


def question(**fields: object) -> pb.CompleteRequest:
    """Build a request that is good unless `fields` make it bad."""
    request = pb.CompleteRequest(**fields)  # type: ignore[arg-type]
    if not request.messages:
        request.messages.append(user())
    return request
