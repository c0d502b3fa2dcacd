"""The control protocol with a misbehaving stand-in; test_control_real.py uses the CLI."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bridge.core.claude.control import ControlError, ControlTransport
from bridge.core.claude.processes.process import Command, ProcessGoneError
from bridge.core.claude.wire import Wire
from tests.support.claude.fake_process import fake_command
from tests.support.waiting import soon


class Listener:
    """Collects what a transport passes to the conversation."""

    def __init__(self) -> None:
        self.heard: list[Wire | None] = []
        self._more = asyncio.Event()

    def __call__(self, line: Wire | None) -> None:
        self.heard.append(line)
        self._more.set()

    @property
    def sent(self) -> list[Wire]:
        """Return what the stand-in reports as received."""
        return [line["line"] for line in self.heard if line and line["type"] == "seen"]

    @property
    def others(self) -> list[Wire | None]:
        return [line for line in self.heard if line is None or line["type"] != "seen"]

    async def until(self, condition: Callable[[Listener], bool]) -> None:
        while not condition(self):
            self._more.clear()
            await soon(self._more.wait())

    async def end(self) -> None:
        await self.until(lambda it: None in it.heard)


Spawn: TypeAlias = Callable[..., Awaitable[tuple[ControlTransport, Listener]]]


@pytest.fixture
async def spawn() -> AsyncGenerator[Spawn, None]:
    """Start a transport on the stand-in; ended with the test."""
    async with AsyncExitStack() as stack:

        async def spawns(**how: Any) -> tuple[ControlTransport, Listener]:
            listener = Listener()
            transport = ControlTransport(listener)
            stack.push_async_callback(transport.close)
            await transport.spawn(fake_command(**how))
            return transport, listener

        yield spawns


def to_sdk(transport: ControlTransport) -> Any:
    return transport.read_messages()


# Requests and answers


async def test_a_request_gives_what_it_was_answered(spawn: Spawn) -> None:
    transport, listener = await spawn()
    assert await soon(transport.request("get_settings", a=1, b={"c": "ü"})) == {
        "asked": "get_settings"
    }
    (sent,) = listener.sent
    assert sent["type"] == "control_request"
    assert sent["request"] == {"subtype": "get_settings", "a": 1, "b": {"c": "ü"}}


async def test_each_request_has_an_id_of_its_own(spawn: Spawn) -> None:
    transport, listener = await spawn()
    await soon(asyncio.gather(*(transport.request("x") for _ in range(20))))
    assert len({line["request_id"] for line in listener.sent}) == 20


async def test_answers_find_their_requests_whatever_their_order(spawn: Spawn) -> None:
    transport, _ = await spawn(late="slow")
    slow = asyncio.create_task(transport.request("slow"))
    await asyncio.wait({slow}, timeout=0)
    assert await soon(transport.request("fast")) == {"asked": "fast"}
    assert await soon(slow) == {"asked": "slow"}


@pytest.mark.parametrize("answer", [None, [], "text"])
async def test_an_answer_that_is_no_object_counts_as_an_empty_one(
    spawn: Spawn, answer: object
) -> None:
    transport, _ = await spawn(answers={"x": answer})
    assert await soon(transport.request("x")) == {}


async def test_a_refused_request_raises_with_the_clis_text(spawn: Spawn) -> None:
    transport, _ = await spawn(refuse={"apply_flag_settings": "no such thing"})
    with pytest.raises(ControlError, match=r"apply_flag_settings.*no such thing"):
        await soon(transport.apply_settings({"model": "opus"}))
    assert await soon(transport.request("x")) == {"asked": "x"}, "others still work"


async def test_a_request_that_is_not_answered_in_its_time_raises(spawn: Spawn) -> None:
    transport, _ = await spawn(silent=["x"])
    with pytest.raises(ControlError, match=r"x was not answered in 0\.01 s"):
        await soon(transport.request("x", timeout=0.01))
    assert await soon(transport.request("y")) == {"asked": "y"}, "others still work"


async def test_an_answer_that_comes_too_late_is_dropped(spawn: Spawn) -> None:
    transport, listener = await spawn(late="slow")
    with pytest.raises(ControlError):
        await soon(transport.request("slow", timeout=0.01))
    assert await soon(transport.request("next")) == {"asked": "next"}
    await soon(transport.write(line_of("req_1", "from_sdk")))
    async with aclosing(to_sdk(transport)) as messages:
        message = await soon(anext(messages))
    assert message["response"]["request_id"] == "req_1", "not even the SDK's"
    assert listener.others == []


async def test_booting_waits_for_an_answer_and_gives_up_on_none(spawn: Spawn) -> None:
    transport, listener = await spawn()
    await soon(transport.boot(60))
    assert listener.sent[0]["request"]["subtype"] == "get_settings"
    mute, _ = await spawn(silent=["get_settings"])
    with pytest.raises(ControlError):
        await soon(mute.boot(0.01))


@pytest.mark.parametrize(
    ("answer", "model"),
    [
        ({"applied": {"model": "claude-haiku-4-5"}}, "claude-haiku-4-5"),
        ({"applied": {"model": None}}, None),
        ({"applied": None}, None),
        ({}, None),
    ],
)
async def test_booting_returns_the_model_of_the_users_settings(
    spawn: Spawn, answer: Wire, model: str | None
) -> None:
    transport, _ = await spawn(answers={"get_settings": answer})
    assert await soon(transport.boot(60)) == model


async def test_settings_are_sent_as_they_are_with_null_for_what_is_taken_back(
    spawn: Spawn,
) -> None:
    transport, listener = await spawn()
    await soon(transport.apply_settings({"model": None, "env": {"A": ""}}))
    assert listener.sent[0]["request"] == {
        "subtype": "apply_flag_settings",
        "settings": {"model": None, "env": {"A": ""}},
    }


@pytest.mark.parametrize(
    ("answer", "done"),
    [
        ({"rewound": True}, True),
        ({"rewound": False, "reason": "stale_target"}, False),
        ({"rewound": "yes"}, False),
        ({}, False),
    ],
)
async def test_a_rewind_counts_only_when_the_cli_confirms_it(
    spawn: Spawn, answer: Wire, done: bool
) -> None:
    transport, listener = await spawn(answers={"rewind_conversation": answer})
    assert await soon(transport.rewind("id-1")) is done
    assert listener.sent[0]["request"]["target_message_uuid"] == "id-1"


@pytest.mark.parametrize(
    ("answer", "queued"),
    [({"still_queued": ["id-1"]}, ["id-1"]), ({"still_queued": None}, []), ({}, [])],
)
async def test_an_interrupt_gives_the_lines_that_were_not_begun(
    spawn: Spawn, answer: Wire, queued: list[str]
) -> None:
    transport, _ = await spawn(answers={"interrupt": answer})
    assert await soon(transport.interrupt()) == queued


async def test_a_line_that_is_sent_is_one_line_of_ascii(spawn: Spawn) -> None:
    transport, listener = await spawn()
    line = {"type": "user", "message": "a\nb\u2028ü\U0001f600", "shouldQuery": True}
    await transport.send(line)
    await listener.until(lambda it: bool(it.sent))
    assert listener.sent == [line]


# Routing of lines


def line_of(request_id: str, subtype: str, **fields: Any) -> str:
    line = {
        "type": "control_request",
        "request_id": request_id,
        "request": {"subtype": subtype, **fields},
    }
    return json.dumps(line) + "\n"


async def test_the_sdk_hears_answers_to_its_own_requests_and_the_conversation_hears_neither(
    spawn: Spawn,
) -> None:
    transport, listener = await spawn()
    async with aclosing(to_sdk(transport)) as messages:
        await transport.write(line_of("req_1_ab", "mcp_status"))
        await soon(transport.request("x"))
        message = await soon(anext(messages))
    assert message["type"] == "control_response"
    assert message["response"] == {
        "request_id": "req_1_ab",
        "subtype": "success",
        "response": {"asked": "mcp_status"},
    }
    assert listener.others == []


async def test_what_the_cli_asks_goes_to_the_sdk_and_the_conversation_to_the_listener(
    spawn: Spawn,
) -> None:
    asked = {"type": "control_request", "request_id": "c1", "request": {"subtype": "mcp_message"}}
    withdrawn = {"type": "control_cancel_request", "request_id": "c1"}
    said = [
        {"type": "assistant", "message": {}},
        {"type": "stream_event", "event": {}},
        {"type": "something_new"},
        {"type": "result"},
    ]
    raw = "".join(json.dumps(line) + "\n" for line in (asked, *said, withdrawn))
    transport, listener = await spawn(raw={"x": [(raw, 1)]})
    await soon(transport.request("x"))
    async with aclosing(to_sdk(transport)) as messages:
        assert [await soon(anext(messages)), await soon(anext(messages))] == [asked, withdrawn]
    assert listener.others == said


async def test_an_unread_conversation_does_not_block_the_sdk(spawn: Spawn) -> None:
    raw = '{"type": "stream_event", "event": {}}\n'
    transport, listener = await spawn(raw={"x": [(raw, 20_000)]})
    await transport.write(line_of("req_1", "x"))
    async with aclosing(to_sdk(transport)) as messages:
        assert (await soon(anext(messages)))["response"]["request_id"] == "req_1"
    assert len(listener.others) == 20_000


@pytest.mark.parametrize("response", [{}, {"response": None}, {"response": {"request_id": 7}}])
async def test_an_answer_that_answers_nothing_known_is_left_to_the_sdk(
    spawn: Spawn, response: Wire
) -> None:
    line = {"type": "control_response", **response}
    transport, listener = await spawn(raw={"x": [(json.dumps(line) + "\n", 1)]})
    await soon(transport.request("x"))
    async with aclosing(to_sdk(transport)) as messages:
        assert await soon(anext(messages)) == line
    assert listener.others == []


# initialize


async def test_the_system_prompt_goes_into_the_sdks_initialize_and_only_there(
    spawn: Spawn,
) -> None:
    transport, listener = await spawn()
    transport.on_initialize(system_prompt="Be brief.")
    await transport.write(line_of("req_1", "mcp_status", note="initialize"))
    await transport.write('{"type": "user", "message": "\\"initialize\\""}\n')
    await transport.write(line_of("req_2", "initialize", hooks=None))
    await transport.write(line_of("req_3", "initialize", hooks=None))
    await listener.until(lambda it: len(it.sent) == 4)
    before, user, initialize, again = listener.sent
    assert before["request"] == {"subtype": "mcp_status", "note": "initialize"}
    assert user == {"type": "user", "message": '"initialize"'}
    assert initialize["request"] == {
        "subtype": "initialize",
        "hooks": None,
        "systemPrompt": "Be brief.",
    }
    assert again["request"] == {"subtype": "initialize", "hooks": None}


async def test_an_empty_system_prompt_is_one_and_none_keeps_the_preset(spawn: Spawn) -> None:
    transport, listener = await spawn()
    transport.on_initialize(system_prompt="")
    await transport.write(line_of("req_1", "initialize"))
    transport.on_initialize(system_prompt=None)
    await transport.write(line_of("req_2", "initialize"))
    await listener.until(lambda it: len(it.sent) == 2)
    assert listener.sent[0]["request"]["systemPrompt"] == ""
    assert "systemPrompt" not in listener.sent[1]["request"]


# Faults


@pytest.mark.parametrize("noise", ["hello\n", "[1, 2]\n", " {}\n", "\ufffd\x1b[0m\n", "null\n"])
async def test_noise_between_the_lines_is_passed_over(spawn: Spawn, noise: str) -> None:
    transport, listener = await spawn(raw={"x": [(noise + '{"type": "result"}\n' + noise, 1)]})
    assert await soon(transport.request("x")) == {"asked": "x"}
    assert listener.others == [{"type": "result"}]
    assert transport.is_ready()


@pytest.mark.parametrize(
    ("value", "read"),
    [('"\\ud83d"', "\ud83d"), ("[" * 300 + "]" * 300, None)],
    ids=["half of a surrogate pair", "deep"],
)
async def test_what_only_the_slower_parser_takes_is_taken(
    spawn: Spawn, value: str, read: str | None
) -> None:
    transport, listener = await spawn(raw={"x": [(f'{{"type": "result", "x": {value}}}\n', 1)]})
    await soon(transport.request("x"))
    (line,) = listener.others
    assert line is not None
    assert line["x"] == (read or json.loads(value))


@pytest.mark.parametrize(
    "garbage",
    [
        '{"type": "assistant", "mess\n',
        "{}\n",
        '{"type": []}\n',
        "{" * 10 + "\n",
        'hello {"type": "assistant"}\n',
    ],
)
async def test_a_broken_line_ends_the_process_because_its_content_is_unknown(
    spawn: Spawn, garbage: str
) -> None:
    after = '{"type": "result"}\n'
    transport, listener = await spawn(raw={"x": [(garbage + after, 1)]}, silent=["x"])
    with pytest.raises(ProcessGoneError):
        await soon(transport.request("x"))
    await listener.end()
    assert not transport.is_ready()
    assert listener.others == [None], "what comes after it is not handed on"


async def test_a_line_nested_too_deep_to_be_read_is_a_broken_one(spawn: Spawn) -> None:
    deep = [('{"type": "result", "deep": ', 1), ("[", 200_000), ("]", 200_000), ("}\n", 1)]
    transport, listener = await spawn(raw={"x": deep}, silent=["x"])
    with pytest.raises(ProcessGoneError):
        await soon(transport.request("x"))
    await listener.end()


async def test_when_the_process_dies_every_waiting_request_fails(spawn: Spawn) -> None:
    transport, listener = await spawn(silent=["x", "y"], die=["z"])
    waiting = [asyncio.create_task(transport.request(name)) for name in ("x", "y", "z")]
    done, _ = await soon(asyncio.wait(waiting))
    assert [type(task.exception()) for task in done] == [ProcessGoneError] * 3
    await listener.end()
    assert listener.others == [None]
    assert transport.process.exit_code == 9
    assert transport.process.stderr_tail == "a last word"
    assert not transport.is_ready()


async def test_when_the_process_dies_the_sdk_reads_what_there_is_and_then_an_error(
    spawn: Spawn,
) -> None:
    transport, _ = await spawn(die=["x"])
    await transport.write(line_of("req_1", "y"))
    await transport.write(line_of("req_2", "x"))

    async with aclosing(to_sdk(transport)) as messages:
        assert (await soon(anext(messages)))["response"]["request_id"] == "req_1"
        with pytest.raises(ProcessGoneError):
            await soon(anext(messages))


async def test_when_the_process_is_ended_on_purpose_the_sdk_reads_to_the_end(spawn: Spawn) -> None:
    transport, _ = await spawn()
    await soon(transport.boot(60))
    await soon(transport.close())

    async def read() -> list[Wire]:
        return [message async for message in to_sdk(transport)]

    assert await soon(read()) == []


async def test_after_the_end_every_request_and_every_line_raises(spawn: Spawn) -> None:
    transport, _ = await spawn()
    await soon(transport.close())
    with pytest.raises(ProcessGoneError):
        await transport.request("x")
    with pytest.raises(ProcessGoneError):
        await transport.send({"type": "user"})
    with pytest.raises(ProcessGoneError):
        await transport.write("{}\n")


async def test_a_process_that_cannot_be_started_is_an_oserror_and_can_be_closed() -> None:
    transport = ControlTransport(lambda line: None)
    with pytest.raises(OSError, match="nonexistent"):
        await transport.spawn(Command(("/nonexistent/claude",), {}, Path("/")))
    assert not transport.is_ready()
    await transport.end_input()
    await transport.close()


async def test_closing_the_input_lets_the_process_end_by_itself(spawn: Spawn) -> None:
    transport, listener = await spawn()
    await soon(transport.boot(60))
    await transport.end_input()
    await listener.end()
    assert transport.process.exit_code == 0


async def test_noise_before_anything_was_asked_is_passed_over_too(spawn: Spawn) -> None:
    transport, listener = await spawn(start='noise\n{"type": "result"}\n')
    await soon(transport.boot(60))
    assert listener.others == [{"type": "result"}]


async def test_a_broken_line_that_comes_before_the_start_is_complete_ends_the_process_too() -> None:
    listener = Listener()
    transport = ControlTransport(listener)
    # A child as fast as this one has written before its pipes are set up.
    script = "echo '{broken'; exec cat"
    try:
        await transport.spawn(Command(("/bin/sh", "-c", script), {}, Path("/")))
        await listener.end()
        assert transport.process.exit_code == -signal.SIGKILL
    finally:
        await soon(transport.close())


async def test_a_line_that_cannot_be_dealt_with_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, spawn: Spawn
) -> None:
    """Lines in the same chunk must not be lost silently: the answer would have a gap."""
    transport, listener = await spawn()

    def deaf(_line: object) -> None:
        raise KeyError("name")

    monkeypatch.setattr(transport, "_on_response", deaf)
    with pytest.raises(ProcessGoneError):
        await soon(transport.request("x"))
    await listener.end()
    assert not transport.is_ready()
