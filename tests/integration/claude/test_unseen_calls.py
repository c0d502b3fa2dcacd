"""Calls that the CLI makes by itself after an answer is complete: prevented, or counted."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from bridge.core.claude.processes import launch
from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.claude.reading.call_usage import UnseenCalls
from bridge.core.claude.session import Session
from bridge.core.claude.turn_settings import Profile
from bridge.core.claude.turns import Turn
from bridge.core.claude.wire import Wire
from bridge.core.contract import Role, Usage
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from tests.support.waiting import soon

REFUSAL_RETRY = "CLAUDE_CODE_DISABLE_REFUSAL_RETRY"
SECOND: dict[str, Any] = {"text": "a second answer"}


@pytest.fixture(scope="module")
async def simulator() -> AsyncGenerator[Simulator, None]:
    async with Simulator(pace_ms=0) as simulator:
        yield simulator


async def asked(launcher: Launcher, answer: dict[str, Any], note: str) -> Session:
    """Return a session that was asked, read up to the end of the first answer, and then left
    alone."""
    session = await soon(Session.spawn(launcher))
    try:
        await soon(session.initialise(Profile("A test.")))
        words = f"[[sim {json.dumps({'turns': [answer, SECOND], 'note': note})}]]"
        await session.ask(Turn(Role.USER, ({"type": "text", "text": words},)))
        while not _ends(await soon(session.receive())):
            pass
        await soon(session.turn_over())
    finally:
        await soon(session.close())
    return session


def _ends(line: Wire) -> bool:
    return line["type"] == "stream_event" and bool(line["event"]["type"] == "message_delta")


def launcher_in(folder: Path, simulator: Simulator) -> Launcher:
    environment = hermetic_environment(os.environ, folder, simulator.base_url)
    return Launcher(bundled_cli(), environment, folder)


@pytest.mark.parametrize(
    "answer",
    [
        {"text": ""},
        {"text": " \n"},
        {"thinking": "Hm.", "text": ""},
        {"text": "It is cut", "stop_reason": "max_tokens"},
    ],
    ids=["empty", "blank", "thinking alone", "max_tokens"],
)
async def test_a_second_call_after_such_an_answer_is_counted_with_its_tokens(
    tmp_path: Path, simulator: Simulator, answer: dict[str, Any]
) -> None:
    note = uuid.uuid4().hex
    session = await asked(launcher_in(tmp_path, simulator), answer, note)
    unseen = session.inbox.unseen
    _, second = simulator.ledger.exchanges(containing=note)
    assert unseen.count == 1
    assert second.usage is not None
    assert (unseen.usage.input_tokens, unseen.usage.output_tokens) == (
        second.usage["input_tokens"],
        second.usage["output_tokens"],
    )


async def test_there_is_none_after_any_other_answer(tmp_path: Path, simulator: Simulator) -> None:
    note = uuid.uuid4().hex
    session = await asked(launcher_in(tmp_path, simulator), {"text": "All of it."}, note)
    assert len(simulator.ledger.exchanges(containing=note)) == 1
    assert (session.inbox.unseen.count, session.inbox.unseen.usage) == (0, Usage())


@pytest.mark.parametrize(("off", "calls"), [(True, 1), (False, 2)])
async def test_a_refusal_is_not_asked_for_again_where_that_is_turned_off(
    tmp_path: Path,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    calls: int,
    *,
    off: bool,
) -> None:
    if not off:
        variables = {k: v for k, v in launch._ENVIRONMENT.items() if k != REFUSAL_RETRY}
        assert len(variables) == len(launch._ENVIRONMENT) - 1
        monkeypatch.setattr(launch, "_ENVIRONMENT", variables)
    note = uuid.uuid4().hex
    answer = {"text": "I cannot.", "stop_reason": "refusal"}
    await asked(launcher_in(tmp_path, simulator), answer, note)
    assert len(simulator.ledger.exchanges(containing=note)) == calls


# Which lines count


def event(kind: str, **more: Any) -> Wire:
    return {"type": "stream_event", "event": {"type": kind, **more}}


def requesting() -> Wire:
    return {"type": "system", "subtype": "status", "status": "requesting"}


def test_a_call_that_is_interrupted_before_its_first_line_counts_without_tokens() -> None:
    unseen = UnseenCalls()
    unseen.feed(requesting())
    assert (unseen.count, unseen.usage) == (1, Usage())


def test_the_rest_of_the_answer_that_was_read_is_no_call() -> None:
    unseen = UnseenCalls()
    for line in (
        event("content_block_delta", delta={"type": "text_delta", "text": "x"}),
        event("message_delta", delta={}, usage={"output_tokens": 9}),
        event("message_stop"),
        {"type": "system", "subtype": "init"},
        {"type": "rate_limit_event"},
        {"type": "result"},
    ):
        unseen.feed(line)
    assert (unseen.count, unseen.usage) == (0, Usage())


def test_the_tokens_of_several_calls_are_added_up() -> None:
    unseen = UnseenCalls()
    for tokens in (3, 4):
        unseen.feed(requesting())
        unseen.feed(event("message_start", message={"usage": {"input_tokens": 10}}))
        unseen.feed(event("message_delta", delta={}, usage={"output_tokens": tokens}))
    assert (unseen.count, unseen.usage) == (2, Usage(input_tokens=20, output_tokens=7))
