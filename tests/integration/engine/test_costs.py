"""The cost of each request, as booked from the figures of the real CLI."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path

import pytest

from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.claude.session import Session
from bridge.core.contract import (
    CompletionRequest,
    ProcessFailedError,
    TextDelta,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.engine import Engine, EngineOptions
from bridge.core.pool import PoolLimits, Recycling
from bridge.core.telemetry import Observers
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from tests.support.harness import PATIENCE, RunningEngine, running_engine, sim, user

TOOL = Tool("f", "A tool.", {"type": "object"})
ENDLESS = sim(endless=True, delay_ms=5)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """The sessions whose process was replaced."""
    sessions: list[Session] = []
    close = Session.close

    async def recorded(session: Session, *, hard: bool = False) -> None:
        sessions.append(session)
        await close(session, hard=hard)

    monkeypatch.setattr(Session, "close", recorded)
    return sessions


def spent(sessions: Iterable[Session]) -> float:
    """What Claude Code says in total."""
    return sum(session.spent_usd or 0.0 for session in set(sessions))


async def leave(running: RunningEngine, caller: str) -> None:
    """Ask, and go away in the middle of the answer."""
    request = CompletionRequest((user(ENDLESS),), request_id=uuid.uuid4().hex, caller=caller)
    async with aclosing(running.engine.complete(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                return


async def test_the_sum_over_keys_is_what_claude_code_says_in_total(
    tmp_path: Path, ended: list[Session]
) -> None:
    async with running_engine(tmp_path, PoolLimits(2, 8, 2)) as running:
        first = await running.ask(user("One?"), caller="a", conversing=True)
        await running.ask(user("One?"), first.message, user("Two?"), caller="a", conversing=True)
        called = await running.ask(user(sim(tools=[{"name": "f"}])), caller="b", tools=(TOOL,))
        assert isinstance(called.message.parts[0], ToolCallPart)
        results = ToolResultPart(called.message.parts[0].id, (TextPart(sim(text="Done.")),))
        question = user(sim(tools=[{"name": "f"}]))
        await asyncio.gather(
            running.ask(question, called.message, user(results), caller="b", tools=(TOOL,)),
            running.ask(user("Small?"), caller="c", model="haiku"),
            leave(running, "c"),
        )
        await running.engine.booked()
        await running.settled()
        sessions = (*running.engine.pool.sessions(), *ended)
        costs = [line["cost_usd"] for line in running.records()]
        assert len(costs) == 6
        assert all(cost > 0 for cost in costs)
        assert sum(costs) == pytest.approx(spent(sessions), abs=1e-8)
        assert {line["billed"] for line in running.records()} == {False}


async def test_the_last_answer_of_a_worn_process_is_booked(tmp_path: Path) -> None:
    async with running_engine(tmp_path, recycling=Recycling(answers=1)) as running:
        answer = await running.ask(user("Hello"))
        assert answer.record["cost_usd"] > 0


async def answered_by_the_dying(running: RunningEngine, request: CompletionRequest) -> None:
    """Read an answer, and kill all processes at its first text."""
    killed = False
    async with aclosing(running.engine.complete(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta) and not killed:
                killed = True
                for session in running.engine.pool.sessions():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(session.pid, signal.SIGKILL)


async def test_the_cost_of_a_killed_process_is_unknown_not_zero(tmp_path: Path) -> None:
    async with running_engine(tmp_path, PoolLimits(1, 2, 0)) as running:
        request = CompletionRequest((user(ENDLESS),), request_id=uuid.uuid4().hex)
        with pytest.raises(ProcessFailedError):
            await answered_by_the_dying(running, request)
        await asyncio.wait_for(running.engine.booked(), PATIENCE)
        (line,) = running.records()
        assert line["error"] == "CLAUDE_PROCESS_ERROR"
        assert line["cost_usd"] is None


async def test_requests_are_booked_before_the_server_ends(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as running:
        answering = asyncio.ensure_future(leave(running, "a"))
        await asyncio.wait_for(answering, PATIENCE)
        await asyncio.wait_for(running.engine.drain(), PATIENCE)
        (line,) = running.records()
        assert line["cost_usd"] > 0


@pytest.mark.parametrize(
    ("variable", "billed", "subscription"),
    [
        ("CLAUDE_CODE_OAUTH_TOKEN", False, True),
        ("ANTHROPIC_API_KEY", True, False),
        # What is behind a gateway is unknown: the careful side of each question.
        ("ANTHROPIC_AUTH_TOKEN", True, True),
    ],
)
async def test_an_account_is_billed_or_a_subscription_by_what_claude_code_reports(
    tmp_path: Path, variable: str, *, billed: bool, subscription: bool
) -> None:
    async with Simulator(pace_ms=0) as simulator:
        environment = hermetic_environment(os.environ, tmp_path, simulator.base_url)
        del environment["CLAUDE_CODE_OAUTH_TOKEN"]
        environment[variable] = "anything"
        launcher = Launcher(bundled_cli(), environment, tmp_path)
        options = EngineOptions(PoolLimits(1, 1, 0))
        async with Engine(launcher, options, Observers(())) as engine:
            assert (engine.account.billed, engine.subscription) == (billed, subscription)
