"""The limits of a request: at each the right error at either API, and a free slot."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.core.contract.events import TextDelta
from bridge.core.contract.request import CompletionRequest
from bridge.core.engine import TimeLimits
from bridge.core.pool.policy import PoolLimits
from bridge.simulator import Exchange
from tests.support.front_ends import KINDS, Apis, both_apis
from tests.support.harness import PATIENCE, RunningEngine, running_engine, sim, user
from tests.support.replies import Failure

SHORT = 0.3
"""Seconds of the limit that is to be reached; the others are far longer."""
LONGER = 1.0
"""Seconds of one that is not to be reached."""


@dataclass(frozen=True)
class Stage:
    """An engine that answers one request at a time, with both APIs."""

    engine: RunningEngine
    apis: Apis

    async def reached(self, mark: str) -> None:
        """Wait until a request is with the model."""
        await self._until(lambda found: bool(found), mark)

    async def closed(self, mark: str) -> None:
        """Wait until a request that has come to the model was closed from here.

        A limit that is short, on a machine that is slow, may have come before that.
        """
        await self._until(lambda found: {e.ended for e in found} <= {"client_closed"}, mark)

    async def _until(self, met: Callable[[list[Exchange]], bool], mark: str) -> None:
        def seen(exchanges: Sequence[Exchange]) -> bool:
            found = [exchange for exchange in exchanges if exchange.contains(mark)]
            return met(found)

        await self.engine.simulator.ledger.wait_for_async(seen, PATIENCE)

    async def serves(self) -> None:
        """Check that the slot serves the next request."""
        assert await self.apis.ask("whole", sim(text="next")) == "next"


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            running_engine(tmp_path_factory.mktemp("deadlines"), PoolLimits(1, 2, 1))
        )
        yield Stage(engine, await stack.enter_async_context(both_apis(engine.engine)))


def told(failure: object, kind: str, reason: str) -> Failure:
    """Check that a caller gets the error of a limit."""
    assert isinstance(failure, Failure)
    if kind == "grpc":
        assert (failure.status, failure.reason) == ("DEADLINE_EXCEEDED", reason)
    else:
        # A stream that has begun has its status already.
        assert failure.status in ((504, 200) if kind == "stream" else (504,))
        code = "timeout" if reason == "DEADLINE_EXCEEDED" else reason.lower()
        assert failure.reason == code
    return failure


SILENCE = {"hang": True}
BREAK = {"tokens": 9, "hang_after": 2}
ENDLESS = {"endless": True, "delay_ms": 5}

REACHED: dict[str, tuple[dict[str, Any], str]] = {
    "first_token": (SILENCE, "FIRST_TOKEN_TIMEOUT"),
    "idle": (BREAK, "IDLE_TIMEOUT"),
    "total": (ENDLESS, "DEADLINE_EXCEEDED"),
}
"""For each limit: how the model comes to it, and the reason told."""


@pytest.mark.parametrize(
    ("kind", "limit"),
    # Over gRPC the whole is the client's own deadline: see grpc_server/test_faults.py.
    [(k, limit) for k in KINDS for limit in REACHED if (k, limit) != ("grpc", "total")],
)
async def test_at_a_limit(stage: Stage, kind: str, limit: str) -> None:
    how, reason = REACHED[limit]
    mark = uuid.uuid4().hex
    # For the whole there must be time to begin in.
    seconds = 3 * SHORT if limit == "total" else SHORT
    asked = f"{mark} {sim(**how)}"
    failure = told(await stage.apis.ask(kind, asked, limits={limit: seconds}), kind, reason)
    assert f"{seconds:g} seconds" in failure.message
    assert failure.retry_after is None
    await stage.closed(mark)
    await stage.serves()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_wait_for_a_process_has_a_limit_and_may_be_tried_again(
    stage: Stage, kind: str
) -> None:
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    holding = stage.apis.call("stream", f"{first} {sim(hang=True)}")
    await stage.reached(first)
    answer = await stage.apis.ask(kind, second, limits={"queue": SHORT})
    failure = told(answer, kind, "QUEUE_TIMEOUT")
    assert failure.retry_after is not None
    assert failure.retry_after >= 1
    assert stage.engine.engine.pool.waiting == 0
    await holding.leave()
    await stage.closed(first)
    assert stage.engine.upstream(second) == []
    await stage.serves()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_limit_on_the_first_token_includes_the_wait_for_a_process(
    stage: Stage, kind: str
) -> None:
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    holding = stage.apis.call("stream", f"{first} {sim(hang=True)}")
    await stage.reached(first)
    answer = await stage.apis.ask(kind, second, limits={"first_token": SHORT})
    failure = told(answer, kind, "QUEUE_TIMEOUT")
    assert f"{SHORT:g} seconds" in failure.message
    assert stage.engine.upstream(second) == []
    await holding.leave()
    await stage.closed(first)
    await stage.serves()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_limit_that_is_no_number_is_named(stage: Stage, kind: str) -> None:
    failure = await stage.apis.ask(kind, "Hello?", limits={"idle": float("nan")})
    assert isinstance(failure, Failure)
    assert failure.status == ("INVALID_ARGUMENT" if kind == "grpc" else 400)
    assert "x-bridge-idle-timeout" in failure.message


async def test_a_model_that_thinks_may_be_silent(stage: Stage) -> None:
    mark = uuid.uuid4().hex
    # A thought begins at once and does not continue, so the limit of the whole request is reached.
    words = f"{mark} {sim(thinking='Hm.', text='Yes.', delay_ms=10 * 60_000)}"
    limits = {"idle": SHORT, "total": 5 * SHORT}
    told(await stage.apis.ask("whole", words, limits=limits), "whole", "DEADLINE_EXCEEDED")
    await stage.closed(mark)


async def test_a_reader_that_is_slow_is_not_the_silence_of_the_model(stage: Stage) -> None:
    request = CompletionRequest((user(sim(tokens=50)),), idle_timeout=LONGER)
    text = ""
    async with aclosing(stage.engine.engine.complete(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                if not text:
                    # All of it comes in the meantime, and nothing after it for longer than that.
                    (session,) = (s for s in stage.engine.engine.pool.sessions() if s.answers)
                    await asyncio.wait_for(session._until(session._conversation.settled), PATIENCE)
                    await asyncio.sleep(1.2 * LONGER)
                text += event.text
    assert text.endswith("w49 ")


async def test_the_servers_own_limits_hold_where_the_caller_asks_for_more(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with (
        running_engine(
            tmp_path_factory.mktemp("own"),
            PoolLimits(1, 1, 0),
            time_limits=TimeLimits(first_token=SHORT),
        ) as engine,
        both_apis(engine.engine) as apis,
    ):
        asked = sim(hang=True)
        for limits in ({}, {"first_token": 60.0}):
            failure = await apis.ask("whole", asked, limits=limits)
            assert isinstance(failure, Failure)
            # On a slow machine it may be reached before a process is free.
            assert failure.reason in ("first_token_timeout", "queue_timeout")
