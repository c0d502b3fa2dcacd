"""Upstream failures become errors, never text of an answer; and the state of the session after."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from bridge.core.contract.errors import (
    BridgeError,
    DeadlineError,
    InvalidRequestError,
    ModelNotFoundError,
    NotLoggedInError,
    PermissionDeniedError,
    PlanLimitError,
    ProcessFailedError,
    QueueFullError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
)
from bridge.core.contract.events import Event, TextDelta
from bridge.core.contract.request import CompletionRequest
from bridge.core.pool.policy import PoolLimits
from bridge.core.pool.recycling import Recycling
from tests.support.harness import LONG, PATIENCE, RunningEngine, running_engine, sim, user


def failing(
    status: int, kind: str = "api_error", message: str = "secret words", **more: Any
) -> str:
    return sim(error={"status": status, "type": kind, "message": message, **more})


@pytest.mark.parametrize(
    ("directive", "kind", "reason"),
    [
        (failing(400, "invalid_request_error"), InvalidRequestError, "UPSTREAM_REFUSED"),
        (
            failing(400, message="prompt is too long: 250000 tokens"),
            InvalidRequestError,
            "CONTEXT_LENGTH_EXCEEDED",
        ),
        (
            failing(400, message="Your credit balance is too low to access the Anthropic API."),
            PlanLimitError,
            "INSUFFICIENT_QUOTA",
        ),
        pytest.param(
            failing(401, "authentication_error"),
            NotLoggedInError,
            "CLAUDE_NOT_LOGGED_IN",
            marks=LONG,
        ),
        (failing(403, "permission_error"), PermissionDeniedError, "PERMISSION_DENIED"),
        (failing(404, "not_found_error"), ModelNotFoundError, "MODEL_NOT_FOUND"),
        (failing(413, "request_too_large"), TooLargeError, "REQUEST_TOO_LARGE"),
        pytest.param(
            failing(429, "rate_limit_error"), RateLimitedError, "RATE_LIMITED", marks=LONG
        ),
        (failing(500), UnavailableError, "UPSTREAM_ERROR"),
        pytest.param(failing(529, "overloaded_error"), UnavailableError, "OVERLOADED", marks=LONG),
        (sim(cut_after=0), UnavailableError, "UPSTREAM_ERROR"),
    ],
    ids=["400", "long", "credit", "401", "403", "404", "413", "429", "500", "529", "cut"],
)
async def test_a_failure_before_the_first_token(
    engine: RunningEngine, directive: str, kind: type[BridgeError], reason: str
) -> None:
    with pytest.raises(kind) as caught:
        await engine.ask(user(directive))
    assert caught.value.reason == reason
    if kind is not InvalidRequestError:
        assert "secret" not in caught.value.message
    answer = await engine.ask(user("hello " + sim(text="still here")))
    assert answer.text == "still here"


async def test_a_usage_limit_is_reported_with_its_reset_time(engine: RunningEngine) -> None:
    headers = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(int(time.time()) + 3600),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
    }
    with pytest.raises(PlanLimitError) as caught:
        await engine.ask(user(failing(429, "rate_limit_error", headers=headers)))
    assert caught.value.reason == "PLAN_LIMIT"
    assert caught.value.retry_after is not None
    assert 3000 < caught.value.retry_after <= 3600
    assert not caught.value.retryable


async def test_a_usage_limit_is_one_for_a_request_that_waited_for_the_same_process(
    tmp_path: Path,
) -> None:
    """A process reports limits only once: here to the request before."""
    headers = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(int(time.time()) + 3600),
    }
    limited = failing(429, "rate_limit_error", headers=headers)
    async with running_engine(tmp_path, PoolLimits(1, 1, 0)) as engine:
        both = await asyncio.gather(
            engine.ask(user(limited)), engine.ask(user(limited)), return_exceptions=True
        )
    assert [type(error) for error in both] == [PlanLimitError] * 2


@pytest.mark.parametrize(
    "directive",
    [sim(tokens=50, error_after=5), sim(tokens=50, cut_after=5)],
    ids=["an error event", "a cut connection"],
)
async def test_a_failure_in_the_middle_ends_the_stream_in_an_error(
    engine: RunningEngine, directive: str
) -> None:
    seen: list[Event] = []
    request = CompletionRequest(messages=(user(directive),))

    async def read() -> None:
        async for event in engine.engine.complete(request):
            seen.append(event)

    with pytest.raises(UnavailableError):
        await read()
    assert not any("API Error" in event.text for event in seen if isinstance(event, TextDelta))


async def test_the_deadline_ends_a_silent_answer_and_frees_the_session(
    engine: RunningEngine,
) -> None:
    mark = uuid.uuid4().hex
    with pytest.raises(DeadlineError, match=r"0\.5 seconds"):
        await engine.ask(user(mark + sim(hang=True)), timeout=0.5)
    await engine.simulator.ledger.wait_for_async(
        lambda all_: all(x.ended is not None for x in all_), PATIENCE
    )
    assert (await engine.ask(user(sim(text="next")))).text == "next"


async def test_a_caller_that_leaves_closes_the_upstream_connection(tmp_path: Path) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 2, 0)) as engine:
        for after in (0, 1, 5):
            events = engine.engine.complete(
                CompletionRequest(messages=(user(sim(endless=True, delay_ms=1)),))
            )
            for _ in range(after):
                await anext(events)
            if after == 0:
                # Before any event: it has not even started, or waits for its first event.
                first = asyncio.ensure_future(anext(events))
                await engine.simulator.ledger.wait_for_async(lambda all_: bool(all_), PATIENCE)
                first.cancel()
                await asyncio.wait((first,))
            await events.aclose()
            (answer, _) = await asyncio.gather(engine.ask(user(sim(text="next"))), asyncio.sleep(0))
            assert answer.text == "next"
        ended = await engine.simulator.ledger.wait_for_async(
            lambda all_: all(x.ended is not None for x in all_), PATIENCE
        )
        assert [x.ended for x in ended].count("client_closed") == 3


async def test_more_requests_than_the_queue_holds_are_refused(tmp_path: Path) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 2, 0), queue_size=1) as engine:
        holding = engine.engine.complete(
            CompletionRequest(messages=(user(sim(endless=True, delay_ms=1)),))
        )
        await anext(holding)
        queued = asyncio.ensure_future(engine.ask(user(sim(text="queued"))))
        await engine.engine.pool.wait_for(lambda _: engine.engine.pool.waiting > 0)
        with pytest.raises(QueueFullError) as caught:
            await engine.ask(user("too many"))
        assert caught.value.retryable
        await holding.aclose()
        assert (await queued).text == "queued"


async def test_a_process_that_dies_before_the_answer_is_replaced_unseen(tmp_path: Path) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 3, 1)) as engine:
        pids = _processes(engine)
        mark = uuid.uuid4().hex
        asked = asyncio.ensure_future(
            engine.ask(user(mark + sim(first_delay_ms=300, text="survived")))
        )
        await engine.simulator.ledger.wait_for_async(
            lambda all_: any(mark in str(x.body) for x in all_), PATIENCE
        )
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert (await asked).text == "survived"


async def test_a_process_that_dies_in_the_middle_ends_the_stream_in_an_error(
    tmp_path: Path,
) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 2, 0)) as engine:
        events = engine.engine.complete(
            CompletionRequest(messages=(user(sim(endless=True, delay_ms=1)),))
        )
        await anext(events)
        for pid in _processes(engine):
            os.kill(pid, signal.SIGKILL)

        async def rest() -> None:
            async for _ in events:
                pass

        with pytest.raises(ProcessFailedError):
            await rest()
        assert (await engine.ask(user(sim(text="next")))).text == "next"


async def test_a_process_is_replaced_when_it_has_served_enough(tmp_path: Path) -> None:
    async with running_engine(
        tmp_path, PoolLimits(1, 3, 1, park_seconds=0), recycling=Recycling(answers=2)
    ) as engine:
        before = _processes(engine)
        for _ in range(3):
            await engine.ask(user(sim(text="x")))
            await engine.settled()
        assert not before & _processes(engine)


def _processes(engine: RunningEngine) -> set[int]:
    """The CLI processes that are initialised."""
    sessions = [process.session for process in engine.engine.pool._processes.values()]
    return {s.pid for s in sessions if s is not None and s.profile is not None and s.alive}
