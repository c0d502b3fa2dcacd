"""A client that goes away, in every phase and at either API: its slot serves the next request."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from claude_agent_sdk import ClaudeSDKClient

from bridge.core.claude.session import Session
from bridge.core.pool.policy import PoolLimits
from bridge.simulator import Exchange
from tests.support.front_ends import KINDS, Apis, both_apis
from tests.support.harness import PATIENCE, RunningEngine, running_engine, sim

every_kind = pytest.mark.parametrize("kind", KINDS)


@dataclass(frozen=True)
class Stage:
    """An engine that answers one request at a time, with both APIs."""

    engine: RunningEngine
    apis: Apis

    async def upstream(self, mark: str, met: Callable[[Exchange], bool]) -> None:
        """Wait until a request that is with the model meets the condition."""

        def seen(exchanges: Sequence[Exchange]) -> bool:
            return any(met(exchange) for exchange in exchanges if exchange.contains(mark))

        await self.engine.simulator.ledger.wait_for_async(seen, PATIENCE)

    async def reached(self, mark: str) -> None:
        await self.upstream(mark, lambda _: True)

    async def closed(self, mark: str) -> None:
        """Wait until the connection upstream was closed from here."""
        await self.upstream(mark, lambda exchange: exchange.ended == "client_closed")

    async def waiting(self, count: int) -> None:
        """Wait until so many requests are in the queue."""
        pool = self.engine.engine.pool
        async with asyncio.timeout(PATIENCE):
            while pool.waiting != count:
                await pool.changed()

    async def serves(self, gone: str) -> None:
        """Check that the slot serves the next request, with nothing in it of the one who has
        gone, and that no process was lost."""
        assert await self.apis.ask("whole", sim(text="next")) == "next"
        assert not self.engine.simulator.ledger.exchanges()[-1].contains(gone)
        await self.engine.settled()
        assert 1 <= sum(self.engine.engine.pool.counts().values()) <= 2


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            running_engine(tmp_path_factory.mktemp("leaving"), PoolLimits(1, 2, 0))
        )
        yield Stage(engine, await stack.enter_async_context(both_apis(engine.engine)))


class Stop:
    """A place in the core where one request stops for good until it is cancelled."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.left = asyncio.Event()

    async def here(self) -> None:
        if self.reached.is_set():
            return
        self.reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


def mark() -> str:
    return uuid.uuid4().hex


@every_kind
async def test_queued(stage: Stage, kind: str) -> None:
    first, second = mark(), mark()
    holding = stage.apis.call("stream", f"{first} {sim(hang=True)}")
    await stage.reached(first)
    queued = stage.apis.call(kind, second)
    await stage.waiting(1)
    await queued.leave()
    await stage.waiting(0)
    await holding.leave()
    await stage.closed(first)
    await stage.serves(first)
    assert stage.engine.upstream(second) == []


@every_kind
async def test_while_a_process_is_initialised(
    stage: Stage, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    connect = ClaudeSDKClient.connect

    async def stopping(self: ClaudeSDKClient, *arguments: Any) -> None:
        await connect(self, *arguments)
        await stop.here()

    monkeypatch.setattr(ClaudeSDKClient, "connect", stopping)
    secret = f"Secret {mark()}."
    caller = stage.apis.call(kind, "Hello?", system=secret)
    await asyncio.wait_for(stop.reached.wait(), PATIENCE)
    await caller.leave()
    await asyncio.wait_for(stop.left.wait(), PATIENCE)
    await stage.serves(secret)
    assert stage.engine.upstream(secret) == []


@every_kind
async def test_while_the_history_is_replayed(
    stage: Stage, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    replay = Session.replay

    async def stopping(self: Session, turns: Sequence[Any], *more: Any) -> None:
        await replay(self, turns, *more)
        if turns:
            await stop.here()

    monkeypatch.setattr(Session, "replay", stopping)
    secret = mark()
    caller = stage.apis.call(kind, f"{secret} one", "two", "three")
    await asyncio.wait_for(stop.reached.wait(), PATIENCE)
    await caller.leave()
    await asyncio.wait_for(stop.left.wait(), PATIENCE)
    await stage.serves(secret)
    assert stage.engine.upstream(secret) == []


@every_kind
async def test_before_the_first_token(stage: Stage, kind: str) -> None:
    first = mark()
    caller = stage.apis.call(kind, f"{first} {sim(hang=True)}")
    await stage.reached(first)
    await caller.leave()
    await stage.closed(first)
    await stage.serves(first)


@every_kind
async def test_mid_stream(stage: Stage, kind: str) -> None:
    first = mark()
    caller = stage.apis.call(kind, f"{first} {sim(endless=True, delay_ms=5)}")
    if kind == "whole":
        # It sees nothing of it: what has begun is the model's answer.
        await stage.upstream(first, lambda exchange: exchange.status == 200)
    else:
        await caller.until_text()
    await caller.leave()
    await stage.closed(first)
    await stage.serves(first)


@every_kind
async def test_while_the_arguments_of_a_tool_call_are_streamed(stage: Stage, kind: str) -> None:
    first = mark()
    call = {"name": "add", "input": {"text": "x" * 4_000}, "fragment": 1}
    caller = stage.apis.call(kind, f"{first} {sim(tools=[call], delay_ms=5)}", tools=("add",))
    await stage.upstream(first, lambda exchange: exchange.status == 200)
    await caller.leave()
    await stage.closed(first)
    await stage.serves(first)


@every_kind
async def test_while_its_tool_call_is_parked(stage: Stage, kind: str) -> None:
    # The turn waits in its process for results that never come: it makes way for others.
    first = mark()
    for _ in range(3):
        call = sim(tools=[{"name": "add", "input": {}}])
        caller = stage.apis.call(kind, f"{first} {call}", tools=("add",))
        await caller.finish()
        await stage.engine.settled()
        assert stage.engine.engine.pool.counts()["parked"] >= 1
    await stage.serves(first)
