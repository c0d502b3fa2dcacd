"""Behaviours of the CLI in the pinned SDK that the control protocol and the session rely on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

from bridge.core.claude.control import ControlTransport
from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.claude.processes.process import ProcessGoneError
from bridge.core.claude.processes.user_settings import read_user_settings
from bridge.core.claude.reading.answer_reader import AnswerReader
from bridge.core.claude.session import Session
from bridge.core.claude.turn_settings import ExtraBody, Profile, TurnSettings
from bridge.core.claude.turns import Turn
from bridge.core.claude.wire import Wire
from bridge.core.contract.errors import (
    BridgeError,
    InvalidRequestError,
    ModelNotFoundError,
    NotLoggedInError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
)
from bridge.core.contract.request import Role
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from bridge.simulator.ledger import Exchange
from tests.support.waiting import soon

SYSTEM = "You are a test of the control protocol."
# 1 x 1, so that the CLI has no reason to scale it down.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


def text(words: str) -> Wire:
    return {"type": "text", "text": words}


def user(*content: Wire | str) -> Turn:
    return Turn(Role.USER, tuple(text(c) if isinstance(c, str) else c for c in content))


def assistant(*content: Wire | str) -> Turn:
    return Turn(Role.ASSISTANT, tuple(text(c) if isinstance(c, str) else c for c in content))


def call(call_id: str, **arguments: Any) -> Wire:
    return {"type": "tool_use", "id": call_id, "name": "f", "input": arguments}


def result(call_id: str, *content: Wire, is_error: bool = False) -> Wire:
    block = {"type": "tool_result", "tool_use_id": call_id, "content": list(content)}
    return {**block, "is_error": True} if is_error else block


def sim(**directive: Any) -> str:
    return f"[[sim {json.dumps(directive)}]]"


def mark() -> str:
    """Return a text that identifies one exchange."""
    return f"mark-{uuid.uuid4()}"


@pytest.fixture(scope="module")
async def simulator() -> AsyncGenerator[Simulator, None]:
    async with Simulator(pace_ms=0) as simulator:
        yield simulator


def launcher_in(folder: Path, simulator: Simulator, **environment: str) -> Launcher:
    home, work = folder / "home", folder / "work"
    for path in (home / ".claude", work):
        path.mkdir(parents=True, exist_ok=True)
    env = hermetic_environment(os.environ, home, simulator.base_url)
    return Launcher(bundled_cli(), {**env, **environment}, work)


@pytest.fixture(scope="module")
def launcher(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    return launcher_in(tmp_path_factory.mktemp("cli"), simulator)


@asynccontextmanager
async def running(launcher: Launcher, profile: Profile) -> AsyncGenerator[Session, None]:
    session = await Session.spawn(launcher)
    try:
        await session.initialise(profile)
        yield session
    finally:
        await soon(session.close())


@pytest.fixture(scope="module")
async def warm(launcher: Launcher) -> AsyncGenerator[Session, None]:
    async with running(launcher, Profile(SYSTEM)) as session:
        yield session


@pytest.fixture
async def session(warm: Session) -> AsyncGenerator[Session, None]:
    """The process that most tests share. Each leaves it empty and with the default settings."""
    yield warm
    await soon(warm.stop())
    assert await soon(warm.reset())
    await soon(warm.configure(TurnSettings()))


async def answer(session: Session, turn: Turn) -> list[Wire]:
    """Ask and wait for the end of the turn; return the received lines."""
    lines: list[Wire] = []
    await session.ask(turn)
    while not lines or lines[-1]["type"] != "result":
        lines.append(await soon(session.receive()))
    await soon(session.park(()) if not lines[-1].get("is_error") else session.stop())
    return lines


async def until_text(session: Session) -> None:
    """Receive until the model has started to answer."""
    while True:
        line = await soon(session.receive())
        assert line["type"] != "result", line
        if line["type"] == "stream_event" and line["event"]["type"] == "content_block_delta":
            return


async def until_result(session: Session) -> None:
    while (await soon(session.receive()))["type"] != "result":
        pass


def exchanges(simulator: Simulator, marked: str) -> tuple[Exchange, ...]:
    return simulator.ledger.exchanges(containing=marked)


def the_exchange(simulator: Simulator, marked: str) -> Exchange:
    (exchange,) = exchanges(simulator, marked)
    return exchange


def conversation(exchange: Exchange) -> list[tuple[str, list[Wire]]]:
    """Return the messages that reached the model, without the CLI's own and its cache marks."""
    return [
        (message["role"], _blocks(message["content"]))
        for message in exchange.messages
        if message["role"] != "system"
    ]


def _blocks(content: str | Sequence[Wire]) -> list[Wire]:
    if isinstance(content, str):
        return [text(content)]
    return [{k: v for k, v in block.items() if k != "cache_control"} for block in content]


async def assert_nothing_is_left(session: Session, simulator: Simulator) -> None:
    """Check that only the next turn reaches the model."""
    marked = mark()
    await answer(session, user(marked))
    assert conversation(the_exchange(simulator, marked)) == [("user", [text(marked)])]


# Before initialize


async def test_a_process_boots_and_takes_settings_before_it_is_initialised(
    launcher: Launcher, simulator: Simulator
) -> None:
    heard: list[Wire | None] = []
    more = asyncio.Event()

    def listen(line: Wire | None) -> None:
        heard.append(line)
        more.set()

    transport = ControlTransport(listen)
    client = ClaudeSDKClient(ClaudeAgentOptions(), transport=transport)
    marked = mark()
    try:
        await transport.spawn(launcher.command())
        await transport.boot(60)
        limit = {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "77"}
        await transport.apply_settings({"model": "haiku", "env": limit})
        assert {line and line["type"] for line in heard} <= {"system"}, "no conversation yet"
        transport.on_initialize(system_prompt=SYSTEM)
        await soon(client.connect())
        content = [text(marked)]
        await transport.send(
            {
                "type": "user",
                "message": {"role": "user", "content": content},
                "client_composed": True,
            }
        )
        while not any(line and line["type"] == "result" for line in heard):
            more.clear()
            await soon(more.wait())
    finally:
        await soon(transport.close())
        await client.disconnect()
    exchange = the_exchange(simulator, marked)
    assert "haiku" in exchange.model
    assert exchange.body["max_tokens"] == 77
    assert SYSTEM in exchange.system_text


async def test_initialising_returns_the_version_the_account_and_the_models(
    session: Session,
) -> None:
    facts = session.facts
    assert facts is not None
    assert facts.version
    assert facts.account["tokenSource"] == "CLAUDE_CODE_OAUTH_TOKEN"
    assert {"default", "haiku"} <= {model["value"] for model in facts.models}
    assert all(model["resolvedModel"].startswith("claude-") for model in facts.models)


async def test_a_system_prompt_reaches_the_model_in_place_of_the_preset(
    session: Session, simulator: Simulator
) -> None:
    marked = mark()
    await answer(session, user(marked))
    system = the_exchange(simulator, marked).system_text
    assert system.endswith(SYSTEM)
    assert len(system) < 1_000


async def test_an_empty_system_prompt_leaves_the_preset_out_and_none_keeps_it(
    launcher: Launcher, simulator: Simulator
) -> None:
    lengths: list[int] = []
    for prompt in ("", None):
        async with running(launcher, Profile(prompt)) as session:
            marked = mark()
            await answer(session, user(marked))
            lengths.append(len(the_exchange(simulator, marked).system_text))
    empty, preset = lengths
    assert empty < 500 < 3_000 < preset


async def test_a_second_initialize_does_not_change_the_system_prompt(
    launcher: Launcher, simulator: Simulator
) -> None:
    # So a session whose initialisation was interrupted must never be taken for a blank one.
    async with running(launcher, Profile(SYSTEM)) as session:
        await session._transport.request("initialize", hooks=None, systemPrompt="Another.")
        marked = mark()
        await answer(session, user(marked))
        assert SYSTEM in the_exchange(simulator, marked).system_text


async def test_without_a_login_the_cli_reports_that_and_makes_no_call(
    launcher: Launcher, simulator: Simulator
) -> None:
    env = {k: v for k, v in launcher.environment.items() if k != "CLAUDE_CODE_OAUTH_TOKEN"}
    nobody = Launcher(launcher.cli, env, launcher.folder)
    async with running(nobody, Profile(SYSTEM)) as session:
        assert session.facts is not None
        assert session.facts.account["tokenSource"] == "none"
        marked = mark()
        assert isinstance(await failure(session, user(marked)), NotLoggedInError)
    assert exchanges(simulator, marked) == ()


# Settings


def told(exchange: Exchange) -> dict[str, Any]:
    """Return the effect of the settings upstream."""
    body = exchange.body
    return {
        "model": body["model"],
        "max_tokens": body["max_tokens"],
        "thinking": (body.get("thinking") or {}).get("type"),
        # Not every model accepts one, and its position has changed over versions.
        "effort": '"effort": "low"' in json.dumps(body),
        "stop_sequences": body.get("stop_sequences"),
    }


async def test_the_api_is_asked_at_no_charge_whether_it_accepts_the_login(
    session: Session, simulator: Simulator
) -> None:
    before = len(simulator.ledger.exchanges())
    assert await session.login_accepted()
    simulator.login_accepted = False
    try:
        assert not await session.login_accepted()
    finally:
        simulator.login_accepted = True
    assert await session.login_accepted()
    assert len(simulator.ledger.exchanges()) == before
    await assert_nothing_is_left(session, simulator)


async def test_settings_merge_and_null_and_empty_take_them_back(
    session: Session, simulator: Simulator
) -> None:
    async def seen() -> dict[str, Any]:
        marked = mark()
        await answer(session, user(marked))
        assert await session.reset()
        return told(the_exchange(simulator, marked))

    before = await seen()
    await session.configure(TurnSettings(effort="low"))
    assert await seen() == {**before, "effort": True}
    changed = TurnSettings(
        model="haiku",
        max_output_tokens=77,
        thinking=False,
        extra_body=ExtraBody(stop_sequences=("###",)),
    )
    await session.configure(changed)
    other = await seen()
    assert "haiku" in other["model"]
    assert (other["max_tokens"], other["stop_sequences"]) == (77, ["###"])
    assert other["thinking"] is None
    # Only one of them changes: the others stay.
    await session.configure(replace(changed, max_output_tokens=55))
    assert await seen() == {**other, "max_tokens": 55}
    await session.configure(TurnSettings())
    assert await seen() == before


async def test_a_change_of_model_leaves_nothing_in_an_empty_conversation(
    session: Session, simulator: Simulator
) -> None:
    await session.configure(TurnSettings(model="opus"))
    await session.configure(TurnSettings(model="haiku"))
    await assert_nothing_is_left(session, simulator)


async def test_of_the_users_own_settings_only_the_default_model_reaches_a_conversation(
    tmp_path: Path, simulator: Simulator
) -> None:
    launcher = launcher_in(
        tmp_path,
        simulator,
        CLAUDE_CODE_MAX_OUTPUT_TOKENS="11",
        CLAUDE_CODE_EXTRA_BODY='{"stop_sequences": ["from the environment"]}',
    )
    hook = {"type": "command", "command": "echo SAID-BY-A-HOOK"}
    (tmp_path / "home" / ".claude" / "CLAUDE.md").write_text("SAID-BY-CLAUDE-MD")
    (tmp_path / "home" / ".claude" / "settings.json").write_text(
        json.dumps(
            {
                "model": "haiku",
                "language": "Klingon",
                "outputStyle": "Explanatory",
                "env": {
                    "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "12",
                    "CLAUDE_CODE_EXTRA_BODY": '{"stop_sequences": ["from the settings"]}',
                },
                "hooks": {
                    "UserPromptSubmit": [{"hooks": [hook]}],
                    "SessionStart": [{"hooks": [hook]}],
                },
            }
        )
    )
    launcher = replace(launcher, user_settings=read_user_settings(launcher.environment))
    async with running(launcher, Profile(SYSTEM)) as session:
        await session.configure(TurnSettings(model="opus"))
        await session.configure(TurnSettings())
        marked = mark()
        await answer(session, user(marked))
    exchange = the_exchange(simulator, marked)
    assert "haiku" in exchange.model
    assert exchange.body["max_tokens"] > 100
    assert "stop_sequences" not in exchange.body
    for stranger in ("SAID-BY", "Klingon", "xplanatory"):
        assert not exchange.contains(stranger)
    assert exchange.tools == []


# Replay


async def test_earlier_turns_reach_the_model_exactly_as_they_are(
    session: Session, simulator: Simulator
) -> None:
    marked = mark()
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
    }
    plain = {"type": "text", "media_type": "text/plain", "data": "Grüße"}
    document = {"type": "document", "source": plain, "title": "Letter"}
    failed = result("toolu_2", text("no such place"), is_error=True)
    history = (
        user("first", image, document),
        assistant("one moment", call("toolu_1", city="Köln"), call("toolu_2", n=[1, {"a": None}])),
        user(result("toolu_1", text("12 °C"), image), failed, "and tomorrow?"),
        assistant("I do not know.\n\n  Sorry \U0001f600"),
        user("a", "b"),
        assistant("c"),
    )
    await soon(session.replay(history))
    assert exchanges(simulator, "no such place") == (), "a replay asks nothing"
    await answer(session, user(marked))
    expected = [(str(turn.role), list(turn.content)) for turn in (*history, user(marked))]
    assert conversation(the_exchange(simulator, marked)) == expected


async def test_a_long_replay_keeps_its_order(session: Session, simulator: Simulator) -> None:
    marked = mark()
    history = [
        turn for n in range(15) for turn in (user(f"question {n}"), assistant(f"answer {n}"))
    ]
    await soon(session.replay(history))
    await answer(session, user(marked))
    expected = [(str(turn.role), list(turn.content)) for turn in (*history, user(marked))]
    assert conversation(the_exchange(simulator, marked)) == expected


async def test_a_turn_can_end_in_tool_results(session: Session, simulator: Simulator) -> None:
    marked = mark()
    await soon(session.replay((user("q"), assistant(call("toolu_1")))))
    last = user(result("toolu_1", text(marked)))
    await answer(session, last)
    assert conversation(the_exchange(simulator, marked))[-1] == ("user", list(last.content))


@pytest.mark.parametrize(
    "words",
    [
        "@/etc/hostname",
        "please read @/etc/hostname now",
        "/clear",
        "/model opus",
        "!echo hello",
        "# remember this",
    ],
)
@pytest.mark.parametrize("as_history", [False, True])
async def test_what_looks_like_a_command_or_a_file_arrives_as_written(
    session: Session, simulator: Simulator, words: str, as_history: bool
) -> None:
    marked = mark()
    if as_history:
        await soon(session.replay((user(words), assistant("ok"))))
        await answer(session, user(marked))
    else:
        await answer(session, user(words, marked))
    history = [("user", [text(words)]), ("assistant", [text("ok")]), ("user", [text(marked)])]
    alone = [("user", [text(words), text(marked)])]
    exchange = the_exchange(simulator, marked)
    assert conversation(exchange) == (history if as_history else alone)


# Rewind


async def test_a_verified_rewind_leaves_nothing(session: Session, simulator: Simulator) -> None:
    await soon(session.replay((user("old"), assistant("old"), user("old"), assistant("old"))))
    await answer(session, user("old"))
    assert await soon(session.reset())
    await assert_nothing_is_left(session, simulator)


async def test_an_older_line_cannot_be_rewound_to_before_the_newer_ones(session: Session) -> None:
    await soon(session.replay((user("a"), assistant("b"), user("c"), assistant("d"))))
    oldest = session._conversation.lines[0]
    assert not await session._transport.rewind(oldest.id)


async def test_rewinding_to_a_line_that_was_never_sent_is_not_done(session: Session) -> None:
    await soon(session.replay((user("a"),)))
    assert not await session._transport.rewind(str(uuid.uuid4()))


async def test_nothing_is_left_after_an_interrupted_answer(
    session: Session, simulator: Simulator
) -> None:
    await session.ask(user(f"old {sim(endless=True, delay_ms=5)}"))
    await until_text(session)
    await soon(session.stop())
    assert await soon(session.reset())
    await assert_nothing_is_left(session, simulator)


async def test_nothing_is_left_after_an_answer_that_was_cut_at_its_limit(
    session: Session, simulator: Simulator
) -> None:
    # The CLI would make it continue by itself.
    await session.configure(TurnSettings(max_output_tokens=5))
    await session.ask(user(f"old {sim(tokens=200)}"))
    reader = AnswerReader(include_thinking=False)
    while reader.stop_reason is None:
        list(reader.feed(await soon(session.receive())))
    assert reader.stop_reason == "max_tokens"
    await soon(session.stop())
    assert await soon(session.reset())
    await session.configure(TurnSettings())
    await assert_nothing_is_left(session, simulator)


async def test_an_answer_cut_at_its_limit_continues_by_itself_unless_interrupted(
    session: Session, simulator: Simulator
) -> None:
    marked = mark()
    await session.configure(TurnSettings(max_output_tokens=5))
    lines = await answer(session, user(marked, sim(tokens=7)))
    assert len([line for line in lines if line["type"] == "result"]) == 1
    assert len(exchanges(simulator, marked)) > 1
    assert session._conversation.open_turns == 0
    assert await soon(session.reset())
    await session.configure(TurnSettings())
    await assert_nothing_is_left(session, simulator)


@pytest.mark.parametrize("ends_in_results", [False, True])
async def test_nothing_is_left_after_a_history_with_tool_results(
    session: Session, simulator: Simulator, ends_in_results: bool
) -> None:
    calls = assistant(call("toolu_1"), call("toolu_2"))
    results = user(result("toolu_1", text("old")), result("toolu_2"), "old")
    history = (user("old"), calls, results)
    if ends_in_results:
        await soon(session.replay(history[:-1]))
        await answer(session, results)
    else:
        await soon(session.replay((*history, assistant("old"))))
        await answer(session, user("old"))
    assert await soon(session.reset())
    await assert_nothing_is_left(session, simulator)


async def test_nothing_is_left_after_a_replay_that_was_never_asked_about(
    session: Session, simulator: Simulator
) -> None:
    await soon(session.replay((user("old"), assistant("old", call("toolu_1")))))
    assert await soon(session.reset())
    await assert_nothing_is_left(session, simulator)


async def test_nothing_is_left_after_a_failed_answer(
    session: Session, simulator: Simulator
) -> None:
    await answer(session, user(f"old {sim(error={'status': 400})}"))
    assert await soon(session.reset())
    await assert_nothing_is_left(session, simulator)


async def test_tool_results_that_answer_nothing_cannot_be_wiped_and_break_the_session(
    launcher: Launcher,
) -> None:
    async with running(launcher, Profile(SYSTEM)) as session:
        await answer(session, user(result("toolu_none", text("old")), "old"))
        assert not await soon(session.reset())
        assert session.broken


# Interrupt


async def test_an_interrupt_closes_the_upstream_connection_in_the_middle_of_the_answer(
    session: Session, simulator: Simulator
) -> None:
    marked = mark()
    await session.ask(user(marked, sim(endless=True, delay_ms=5)))
    await until_text(session)
    assert the_exchange(simulator, marked).ended is None
    await soon(session.stop())
    found = await simulator.ledger.wait_for_async(
        lambda seen: all(e.ended for e in seen if e.contains(marked))
    )
    assert [e.ended for e in found if e.contains(marked)] == ["client_closed"]


async def test_an_interrupt_ends_a_turn_of_which_nothing_has_come_yet(
    session: Session, simulator: Simulator
) -> None:
    marked = mark()
    await session.ask(user(marked, sim(hang=True)))
    await simulator.ledger.wait_for_async(lambda seen: any(e.contains(marked) for e in seen))
    await soon(session.stop())
    assert session._conversation.open_turns == 0
    found = await simulator.ledger.wait_for_async(
        lambda seen: all(e.ended for e in seen if e.contains(marked))
    )
    assert [e.ended for e in found if e.contains(marked)] == ["client_closed"]


async def test_a_turn_can_be_stopped_while_its_line_is_still_queued(
    session: Session, simulator: Simulator
) -> None:
    for _ in range(5):
        await session.ask(user(f"old {sim(endless=True, delay_ms=5)}"))
        await soon(session.stop())
        assert session._conversation.open_turns == 0
        assert await soon(session.reset())
    await assert_nothing_is_left(session, simulator)


async def test_a_turn_can_be_stopped_at_any_moment_and_has_one_result(
    session: Session, simulator: Simulator
) -> None:
    for lines in range(8):
        await session.ask(user(f"old {sim(endless=True)}"))
        for _ in range(lines):
            await soon(session.receive())
        await soon(session.stop())
        assert session._conversation.open_turns == 0
        assert await soon(session.reset())
    await assert_nothing_is_left(session, simulator)


async def test_stopping_what_has_ended_is_harmless_to_the_next_turn(
    session: Session, simulator: Simulator
) -> None:
    await answer(session, user("old"))
    assert await session._transport.interrupt() == []
    await soon(session.stop())
    assert await soon(session.reset())
    await assert_nothing_is_left(session, simulator)


# The end


async def test_a_killed_process_ends_the_receiving(launcher: Launcher) -> None:
    async with running(launcher, Profile(SYSTEM)) as session:
        await session.ask(user(sim(endless=True, delay_ms=5)))
        await until_text(session)
        os.kill(session.pid, signal.SIGKILL)
        with pytest.raises(ProcessGoneError):
            await until_result(session)
        assert session.broken
        assert not session.alive


async def test_a_closed_session_leaves_no_process_behind(launcher: Launcher) -> None:
    async with running(launcher, Profile(SYSTEM)) as session:
        pid = session.pid
        await session.ask(user(sim(endless=True, delay_ms=5)))
        await until_text(session)
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)


# Errors


async def failure(session: Session, turn: Turn) -> BridgeError:
    """Return the error that a turn ends in; no event of an answer may precede it."""
    reader = AnswerReader(include_thinking=True)
    await session.ask(turn)
    while True:
        line = await soon(session.receive())
        try:
            events = list(reader.feed(line))
        except BridgeError as error:
            return error
        assert events == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (404, ModelNotFoundError),
        (413, TooLargeError),
        (429, RateLimitedError),
        (500, UnavailableError),
        (529, UnavailableError),
    ],
)
async def test_a_failing_api_is_an_error_by_its_status_and_no_text_of_an_answer(
    session: Session, status: int, kind: type[BridgeError]
) -> None:
    await session.configure(TurnSettings(retries=0))
    error = await failure(session, user(sim(error={"status": status, "message": "odd words"})))
    assert type(error) is kind
    assert ("odd words" in error.message) == (status == 400)


async def test_an_api_that_is_not_there_is_unavailable(
    tmp_path: Path, simulator: Simulator
) -> None:
    launcher = launcher_in(tmp_path, simulator, ANTHROPIC_BASE_URL="http://127.0.0.1:1")
    async with running(launcher, Profile(SYSTEM)) as session:
        await session.configure(TurnSettings(retries=0))
        assert type(await failure(session, user("hello"))) is UnavailableError
