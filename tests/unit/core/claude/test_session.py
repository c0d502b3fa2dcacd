"""A session with a misbehaving stand-in for the CLI; test_control_real.py uses the CLI."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bridge.core.claude import control as control_module
from bridge.core.claude import inbox as inbox_module
from bridge.core.claude import session as session_module
from bridge.core.claude import wire
from bridge.core.claude.control import ControlError
from bridge.core.claude.processes.launch import Launcher
from bridge.core.claude.processes.process import ProcessGoneError
from bridge.core.claude.session import Session
from bridge.core.claude.turn_settings import Profile, TurnSettings
from bridge.core.claude.turns import Turn
from bridge.core.contract.request import Role
from tests.support.claude.fake_process import fake_launcher
from tests.support.waiting import soon

Spawn: TypeAlias = Callable[..., Awaitable[Session]]

HELLO = Turn(Role.USER, ({"type": "text", "text": "hello"},))
ANSWER = Turn(Role.ASSISTANT, ({"type": "text", "text": "hi"},))
RESULT_BLOCK = {"type": "tool_result", "tool_use_id": "toolu_1", "content": []}
RESULTS = Turn(Role.USER, (RESULT_BLOCK,))
INFO = {
    "models": [{"value": "default"}],
    "account": {"tokenSource": "x"},
    "claude_code_version": "9.9.9",
}
REWOUND = {"rewind_conversation": {"rewound": True}}


@pytest.fixture
async def spawn() -> AsyncGenerator[Spawn, None]:
    """Start a session on the stand-in; ended with the test."""
    async with AsyncExitStack() as stack:

        async def spawns(**how: Any) -> Session:
            session = await soon(Session.spawn(fake_launcher(**how)))
            stack.push_async_callback(session.close)
            return session

        yield spawns


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def requests(log: Path, subtype: str) -> list[dict[str, Any]]:
    """Return the control requests of one subtype that the stand-in received."""
    sent = [line["request"] for line in lines_of(log) if line["type"] == "control_request"]
    return [request for request in sent if request["subtype"] == subtype]


# The start


async def test_a_new_session_is_blank_and_alive(spawn: Spawn) -> None:
    session = await spawn()
    assert session.profile is None
    assert session.facts is None
    assert session.alive
    assert session.answers == 0


async def test_a_new_session_gets_every_setting_before_anything_else(
    spawn: Spawn, log: Path
) -> None:
    await spawn(log=str(log))
    (settings,) = requests(log, "apply_flag_settings")
    assert settings["settings"].keys() >= {"model", "effortLevel", "env"}
    assert requests(log, "initialize") == []


async def test_a_process_that_cannot_be_started_is_an_oserror() -> None:
    with pytest.raises(OSError, match="nonexistent"):
        await Session.spawn(Launcher(Path("/nonexistent/claude"), {}, Path("/")))


async def test_a_working_directory_that_was_tidied_away_is_recreated(tmp_path: Path) -> None:
    launcher = replace(fake_launcher(), folder=tmp_path / "gone" / "work")
    session = await soon(Session.spawn(launcher))
    assert session.alive
    assert launcher.folder.stat().st_mode & 0o777 == 0o700
    await session.close()


async def test_a_process_that_dies_while_it_starts_raises_and_is_gone() -> None:
    with pytest.raises(ProcessGoneError):
        await soon(Session.spawn(fake_launcher(die=["get_settings"])))


async def test_a_process_that_never_comes_up_is_ended(
    monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    monkeypatch.setattr(session_module, "BOOT_TIMEOUT", 0.01)
    closed: list[bool] = []
    close = Session.close

    async def noted_close(self: Session) -> None:
        await close(self)
        closed.append(not self.alive)

    monkeypatch.setattr(Session, "close", noted_close)
    with pytest.raises(ControlError):
        await soon(Session.spawn(fake_launcher(silent=["get_settings"])))
    assert closed == [True]


async def test_initialising_sends_the_profile_and_returns_the_facts(
    spawn: Spawn, log: Path
) -> None:
    session = await spawn(answers={"initialize": INFO}, log=str(log))
    await soon(session.initialise(Profile("Be brief.")))
    assert session.profile == Profile("Be brief.")
    assert session.facts is not None
    assert session.facts.version == "9.9.9"
    assert session.facts.account == {"tokenSource": "x"}
    assert session.facts.models == ({"value": "default"},)
    assert [request["systemPrompt"] for request in requests(log, "initialize")] == ["Be brief."]


async def test_facts_that_the_cli_does_not_report_are_empty(spawn: Spawn) -> None:
    session = await spawn(answers={"initialize": {}})
    await soon(session.initialise(Profile(None)))
    assert session.facts is not None
    assert (session.facts.version, session.facts.account, session.facts.models) == ("", {}, ())


async def test_a_refused_initialisation_leaves_the_session_broken(spawn: Spawn) -> None:
    session = await spawn(refuse={"initialize": "no"})
    # Then the SDK ends the process.
    with pytest.raises((ControlError, ProcessGoneError)):
        await soon(session.initialise(Profile(None)))
    assert session.broken
    assert not session.alive


async def test_a_process_that_dies_during_initialisation_is_reported_as_gone(spawn: Spawn) -> None:
    session = await spawn(die=["initialize"])
    with pytest.raises(ProcessGoneError):
        await soon(session.initialise(Profile(None)))
    assert session.broken


async def test_a_cancelled_initialisation_leaves_the_session_broken(
    spawn: Spawn, log: Path
) -> None:
    # Its system prompt may already apply: it must not be taken for a blank.
    session = await spawn(silent=["initialize"], log=str(log))
    task = asyncio.create_task(session.initialise(Profile("Somebody's secret.")))
    # The stand-in has received it once it answers a later message.
    while not requests(log, "initialize"):
        await soon(session.configure(TurnSettings(max_output_tokens=1)))
        await soon(session.configure(TurnSettings()))
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert session.broken
    assert not session.alive


# Settings


async def test_only_differences_are_sent(spawn: Spawn, log: Path) -> None:
    session = await spawn(log=str(log))
    await soon(session.configure(TurnSettings()))
    await soon(session.configure(TurnSettings(model="opus")))
    await soon(session.configure(TurnSettings(model="opus")))
    await soon(session.configure(TurnSettings()))
    said = [request["settings"] for request in requests(log, "apply_flag_settings")]
    assert said[1:] == [{"model": "opus"}, {"model": None}]


async def test_after_unconfirmed_settings_all_are_sent_again(
    spawn: Spawn, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await spawn(log=str(log))
    everything = requests(log, "apply_flag_settings")[0]["settings"]
    transport = session._transport

    async def unconfirmed(settings: object) -> None:
        raise ControlError("not answered")

    with monkeypatch.context() as patch:
        patch.setattr(transport, "apply_settings", unconfirmed)
        with pytest.raises(ControlError):
            await session.configure(TurnSettings(model="opus"))
    await soon(session.configure(TurnSettings()))
    said = [request["settings"] for request in requests(log, "apply_flag_settings")]
    assert said[1:] == [everything]


async def test_no_model_means_the_users_own_default_as_reported_at_the_start(
    spawn: Spawn, log: Path
) -> None:
    answers = {"get_settings": {"applied": {"model": "claude-haiku-4-5"}}}
    session = await spawn(answers=answers, log=str(log))
    await soon(session.configure(TurnSettings()))
    await soon(session.configure(TurnSettings(model="opus")))
    await soon(session.configure(TurnSettings()))
    said = [request["settings"] for request in requests(log, "apply_flag_settings")]
    assert said[0]["model"] == "claude-haiku-4-5"
    assert said[1:] == [{"model": "opus"}, {"model": "claude-haiku-4-5"}]


# The answer


async def test_lines_are_received_in_order_and_the_turn_is_open_until_its_result(
    spawn: Spawn,
) -> None:
    session = await spawn(turn=[{"type": "a"}, {"type": "b"}, {"type": "result"}])
    await session.ask(HELLO)
    kinds = [(await soon(session.receive()))["type"] for _ in range(4)]
    assert kinds == ["seen", "a", "b", "result"]
    await soon(session.park(()))
    assert session.answers == 1


async def test_nothing_of_an_earlier_turn_is_received_in_the_next(spawn: Spawn) -> None:
    session = await spawn(turn=[{"type": "a"}, {"type": "result"}, {"type": "late"}])
    await session.ask(HELLO)
    await soon(session.park(()))
    await soon(session.configure(TurnSettings(model="opus")))
    await session.ask(HELLO)
    assert [(await soon(session.receive()))["type"] for _ in range(2)] == ["seen", "a"]


async def test_receiving_ends_when_it_is_timed_out(spawn: Spawn) -> None:
    session = await spawn()
    await session.ask(HELLO)
    task = asyncio.create_task(_receive_all(session))
    asyncio.get_running_loop().call_later(0.01, session.inbox.time_out)
    await asyncio.wait({task}, timeout=60)
    assert task.done()
    assert isinstance(task.exception(), TimeoutError)


async def test_a_turn_that_was_cancelled_while_it_was_encoded_is_not_waited_for(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, log: Path
) -> None:
    encoding, go_on = threading.Event(), threading.Event()

    def encode(line: dict[str, Any]) -> bytes:
        encoding.set()
        go_on.wait(60)
        return wire.long_encoded(line)

    monkeypatch.setattr(control_module, "long_encoded", encode)
    session = await spawn(log=str(log))
    asking = asyncio.create_task(
        session.ask(Turn(Role.USER, ({"type": "text", "text": "x" * 2_000_000},)))
    )
    await asyncio.to_thread(encoding.wait, 60)
    asking.cancel()
    go_on.set()
    await asyncio.wait({asking})
    assert asking.cancelled()
    await soon(session.stop())
    assert await soon(session.reset())
    assert requests(log, "interrupt") == []


async def _receive_all(session: Session) -> None:
    while True:
        await session.receive()


async def test_receiving_ends_when_it_is_timed_out_though_there_is_always_more(
    spawn: Spawn,
) -> None:
    session = await spawn(flood=True)
    await session.ask(HELLO)
    asyncio.get_running_loop().call_later(0.05, session.inbox.time_out)

    async def arrived_next() -> None:
        session._arrived.clear()
        await session._arrived.wait()

    async def receive_slowly() -> None:
        while True:
            await session.receive()
            # Slower than the lines arrive: there is always one before the next is read.
            while not session.inbox:
                await arrived_next()

    task = asyncio.create_task(receive_slowly())
    done, _ = await asyncio.wait({task}, timeout=60)
    task.cancel()
    assert done
    assert isinstance(task.exception(), TimeoutError)


async def test_a_time_out_does_not_reach_the_next_turn(spawn: Spawn) -> None:
    session = await spawn(turn=[{"type": "result"}])
    await session.ask(HELLO)
    session.inbox.time_out()
    with pytest.raises(TimeoutError):
        await _receive_all(session)
    await soon(session.park(()))
    # Nor does one that comes after the turn.
    session.inbox.time_out()
    await session.ask(HELLO)
    assert (await soon(session.receive()))["type"] == "seen"


async def test_unread_output_waits_in_the_pipe_and_not_in_memory(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "HIGH_WATER", 100)
    monkeypatch.setattr(inbox_module, "LOW_WATER", 10)
    session = await spawn(flood=True)
    paused = asyncio.Event()
    pause = session._transport.process.pause_reading

    def noted_pause() -> None:
        pause()
        paused.set()

    monkeypatch.setattr(session._transport.process, "pause_reading", noted_pause)
    await session.ask(HELLO)
    await soon(paused.wait())
    held = len(session.inbox)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(session.inbox) == held
    # Once they are read, more arrive.
    for _ in range(held + 1_000):
        assert (await soon(session.receive()))["type"] in ("seen", "stream_event")


async def test_a_turn_that_ends_without_having_been_asked_for_ends_the_process(
    spawn: Spawn,
) -> None:
    # Counted as the end of the next turn, it would leave that one running after a reset.
    session = await spawn(raw={"rewind_conversation": [('{"type": "result"}\n', 1)]})
    with pytest.raises(ProcessGoneError):
        await soon(session._transport.rewind("a line"))
    assert not session.alive
    assert session.failed


async def test_a_process_that_dies_ends_the_receiving_after_its_last_line(spawn: Spawn) -> None:
    session = await spawn(turn=[{"type": "a"}], die=["interrupt"])
    await session.ask(HELLO)
    await soon(session.receive())
    with pytest.raises(ProcessGoneError):
        await soon(session.stop())
    with pytest.raises(ProcessGoneError):
        await soon(session.receive())
    assert session.broken
    assert session.stderr_tail == "a last word"


# The end of a conversation


async def test_a_replay_waits_for_each_user_turn_and_asks_nothing(spawn: Spawn) -> None:
    session = await spawn()
    await soon(session.replay((HELLO, ANSWER, RESULTS, ANSWER)))
    assert session.answers == 0


async def test_a_reset_rewinds_from_the_newest_line_to_the_oldest_past_tool_results(
    spawn: Spawn, log: Path
) -> None:
    session = await spawn(answers=REWOUND, turn=[{"type": "result"}], log=str(log))
    await soon(session.replay((HELLO, ANSWER, RESULTS, ANSWER, HELLO, ANSWER)))
    await session.ask(HELLO)
    await soon(session.park(()))
    assert await soon(session.reset())
    assert session.alive
    users = [line for line in lines_of(log) if line["type"] == "user"]
    plain = [line["uuid"] for line in users if RESULT_BLOCK not in line["message"]["content"]]
    rewound = [request["target_message_uuid"] for request in requests(log, "rewind_conversation")]
    assert rewound == plain[::-1]
    assert len(rewound) == 3


async def test_resetting_an_empty_session_needs_no_word(spawn: Spawn, log: Path) -> None:
    session = await spawn(refuse={"rewind_conversation": "no"}, log=str(log))
    assert await soon(session.reset())
    assert requests(log, "rewind_conversation") == []


@pytest.mark.parametrize(
    "how",
    [
        {"answers": {"rewind_conversation": {"rewound": False, "reason": "stale_target"}}},
        {"refuse": {"rewind_conversation": "no"}},
        {"die": ["rewind_conversation"]},
    ],
)
async def test_a_reset_that_is_not_confirmed_breaks_the_session(
    spawn: Spawn, how: dict[str, Any]
) -> None:
    session = await spawn(**how)
    await soon(session.replay((HELLO, ANSWER)))
    assert not await soon(session.reset())
    assert session.broken
    assert not session.alive


@pytest.mark.parametrize(
    "first", [RESULTS, Turn(Role.USER, (RESULT_BLOCK, {"type": "text", "text": "secret"}))]
)
async def test_a_conversation_that_begins_with_tool_results_cannot_be_wiped(
    spawn: Spawn, first: Turn
) -> None:
    # There is no earlier line to which they could be rewound.
    session = await spawn(answers=REWOUND)
    await soon(session.replay((first, ANSWER, HELLO, ANSWER)))
    assert not await soon(session.reset())
    assert session.broken


async def test_closing_ends_the_process_and_may_be_done_twice(spawn: Spawn) -> None:
    session = await spawn(answers={"initialize": INFO})
    await soon(session.initialise(Profile(None)))
    await soon(session.close())
    await soon(session.close())
    assert not session.alive
    assert session.broken
    with pytest.raises(ProcessGoneError):
        await session.configure(TurnSettings(model="opus"))


async def test_closing_in_the_middle_of_a_flood_that_nobody_receives_returns(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "HIGH_WATER", 10)
    session = await spawn(flood=True)
    await session.ask(HELLO)
    await soon(session.receive())
    await soon(session.close())
    assert not session.alive
