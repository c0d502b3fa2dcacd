"""Processes that die, hang, babble or grow: replaced once unseen, or an error."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from bridge.core.claude import control, sdk_client, session
from bridge.core.claude.processes import process
from bridge.core.claude.session import Session
from bridge.core.contract.errors import ProcessFailedError
from bridge.core.contract.events import Event, TextDelta
from bridge.core.contract.request import CompletionRequest, TextPart, Tool, ToolResultPart
from bridge.core.pool.policy import PoolLimits
from bridge.core.pool.recycling import Recycling
from bridge.core.pool.watchdog import WatchdogLimits
from tests.support.claude.faking import BEGUN, ONE, WHOLE, FakedEngine, faked_engine
from tests.support.harness import PATIENCE, RunningEngine, running_engine, sim, user

Faked = Callable[..., Any]

CLOSELY = WatchdogLimits(interval=0.02, timeout=2)
"""See also `_the_slow_are_not_the_wedged`."""
GROWN = 300 * 1024 * 1024
SECONDS = 6.0
"""For what is never answered; whatever is, takes milliseconds."""

FAULTS: dict[str, dict[str, Any]] = {
    "killed": {"die": True},
    "stopped": {"stop": True},
    "a broken line": {"raw": '{"type": \n'},
    "an over-long line": {"raw": '{"type": "x', "times": 10_000},
    "a line behind somebody else's words": {"raw": 'Careful! {"type": "stream_event"}\n'},
    "a line without what belongs into it": {"type": "stream_event"},
    "its output closed": {"close": True},
    "grown": {"grow": GROWN},
}
"""What a process does in the middle of a turn."""

UNANSWERED: dict[str, dict[str, Any]] = {
    "stuck at its start": {"silent": ["get_settings"]},
    "dead at its start": {"die": ["get_settings"]},
    "settings": {"silent": ["apply_flag_settings"]},
    "initialising": {"silent": ["initialize"]},
    "dies initialising": {"die": ["initialize"]},
    "a broken line": {"raw": {"initialize": [["{]\n", 1]]}},
    "does not read": {"deaf": ["initialize"]},
}
"""What a process does before it is given a turn."""


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_LINE_BYTES", 50_000)
    for module in (control, sdk_client, session):
        monkeypatch.setattr(module, "CONTROL_TIMEOUT", SECONDS)
    monkeypatch.setattr(session, "BOOT_TIMEOUT", SECONDS)


@pytest.fixture(autouse=True)
def _the_slow_are_not_the_wedged(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is slow, since the machine is busy, has more time than one that was stopped."""
    answers_within = Session.answers_within

    async def patient(self: Session, seconds: float) -> bool:
        if await answers_within(self, seconds):
            return True
        return not stopped(self.pid) and await answers_within(self, SECONDS)

    monkeypatch.setattr(Session, "answers_within", patient)


def stopped(pid: int) -> bool:
    ps = ["ps", "-o", "stat=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout.startswith("T")


@pytest.fixture
async def faked(tmp_path: Path) -> AsyncIterator[Faked]:
    """Start engines on the stand-in; ended with the test."""
    async with AsyncExitStack() as stack:
        count = itertools.count()

        async def start(limits: PoolLimits = ONE, **how: Any) -> FakedEngine:
            folder = tmp_path / str(next(count))
            folder.mkdir()
            return await stack.enter_async_context(
                faked_engine(
                    folder,
                    limits,
                    how=how,
                    watchdog=CLOSELY,
                    recycling=Recycling(runaway_bytes=GROWN),
                )
            )

        yield start


async def for_each(
    cases: Mapping[str, dict[str, Any]],
    check: Callable[[dict[str, Any]], Coroutine[Any, Any, None]],
) -> None:
    """Check each case, all at the same time: some of them wait for what never comes."""
    async with asyncio.TaskGroup() as group:
        for name, case in cases.items():
            group.create_task(check(case), name=name)


async def test_before_the_first_event_a_process_is_replaced_unseen(faked: Faked) -> None:
    async def check(fault: dict[str, Any]) -> None:
        engine = await faked(turn=[fault], sound=[1])
        answer = await engine.ask()
        assert (answer.text, answer.reason) == ("Half and half.", "stop")
        assert engine.starts == 2

    await for_each(FAULTS, check)


async def test_it_is_replaced_once_and_no_more(faked: Faked) -> None:
    engine = await faked(turn=[FAULTS["killed"]], sound=[2])
    with pytest.raises(ProcessFailedError) as caught:
        await engine.ask()
    assert caught.value.retryable
    assert (await engine.ask()).text == "Half and half."


async def test_after_the_first_event_the_stream_ends_in_an_error(faked: Faked) -> None:
    async def read(engine: FakedEngine, seen: list[Event]) -> None:
        request = CompletionRequest((user("Hello?"),))
        async with aclosing(engine.engine.complete(request)) as events:
            async for event in events:
                seen.append(event)

    async def check(fault: dict[str, Any]) -> None:
        engine = await faked(turn=[*BEGUN, fault], sound=[1])
        seen: list[Event] = []
        with pytest.raises(ProcessFailedError):
            await read(engine, seen)
        assert TextDelta("Half ") in seen
        assert (await engine.ask()).text == "Half and half."

    await for_each(FAULTS, check)


async def test_a_process_that_fails_before_its_turn_costs_no_request(faked: Faked) -> None:
    async def check(fault: dict[str, Any]) -> None:
        # The first process is sound; the request needs another system prompt, and so another one.
        engine = await faked(sound=[0, 2], **fault)
        assert (await engine.ask(system="Be brief.")).text == "Half and half."
        assert engine.starts >= 3

    await for_each(UNANSWERED, check)


async def test_stderr_is_read_whatever_its_size_and_little_of_it_is_kept(faked: Faked) -> None:
    megabytes = {"stderr": "noise " * 200 + "\n", "times": 5_000}
    engine = await faked(turn=[{"raw": "not JSON at all\n"}, megabytes, *WHOLE])
    assert (await engine.ask()).text == "Half and half."
    await engine.at_rest()
    (kept,) = {s.stderr_tail for s in engine.engine.pool.sessions()}
    assert len(kept) < 100_000


async def test_a_process_that_has_grown_is_not_kept_for_the_next_message(tmp_path: Path) -> None:
    async with faked_engine(
        tmp_path,
        PoolLimits(1, 1, 0),
        how={"turn": [{"grow": GROWN}, *WHOLE]},
        recycling=Recycling(memory_bytes=GROWN),
    ) as engine:
        (before,) = engine.pids
        assert (await engine.ask()).text == "Half and half."
        await engine.at_rest()
        assert before not in engine.pids


async def test_the_watchdog_finds_a_wedged_process_while_it_is_idle(faked: Faked) -> None:
    engine = await faked(PoolLimits(1, 2, 1))
    await engine.at_rest()
    stopped = engine.pids
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    await asyncio.wait_for(
        engine.engine.pool.wait_for(lambda _: engine.engine.pool.totals.ended == len(stopped)),
        PATIENCE,
    )
    await engine.at_rest()
    assert not set(stopped) & set(engine.pids)
    assert (await engine.ask()).text == "Half and half."


async def test_a_stopped_cli_is_replaced_and_the_request_that_it_had_is_answered(
    tmp_path: Path,
) -> None:
    async with running_engine(
        tmp_path, PoolLimits(1, 2, 1), watchdog=WatchdogLimits(interval=0.1, timeout=2)
    ) as engine:
        await engine.settled()
        for running in engine.engine.pool.sessions():
            if running.profile is not None:
                os.kill(running.pid, signal.SIGSTOP)
        assert (await engine.ask(user(sim(text="from another")))).text == "from another"


async def test_being_watched_leaves_nothing_in_a_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[str, bool]] = []
    look = asyncio.Event()
    answers_within = Session.answers_within

    async def noted(self: Session, seconds: float) -> bool:
        answered = await answers_within(self, seconds)
        states = {p.session: p.state for p in engine.engine.pool._processes.values()}
        looked.append((states[self], answered))
        look.set()
        return answered

    async def looks_at(state: str) -> None:
        looked.clear()
        async with asyncio.timeout(PATIENCE):
            while (state, True) not in looked:
                look.clear()
                await look.wait()

    async with running_engine(
        tmp_path, PoolLimits(1, 1, 0), watchdog=WatchdogLimits(interval=0.02, timeout=60)
    ) as engine:
        monkeypatch.setattr(Session, "answers_within", noted)
        add = Tool("add")
        first = user("MARK " + sim(tools=[{"name": "add", "input": {}}]))
        called = await engine.ask(first, tools=(add,))
        await looks_at("parked")
        result = user(ToolResultPart(called.calls[0].id, (TextPart("three"),)))
        told = [first, called.message, result]
        answer = await engine.ask(*told, tools=(add,))
        assert answer.session == "continued"
        await looks_at("parked")
        slow = user("Go on. " + sim(text="at last", first_delay_ms=300))
        asking = asyncio.ensure_future(engine.ask(*told, answer.message, slow, tools=(add,)))
        await looks_at("running")
        last = await asking
        assert (last.session, last.text) == ("continued", "at last")
        exchange = _last(engine)
        roles = [role for role in exchange.roles if role != "system"]
        assert roles == ["user", "assistant", "user", "assistant", "user"]
        assert not exchange.contains("settings")


def _last(engine: RunningEngine) -> Any:
    return engine.upstream("MARK")[-1]
