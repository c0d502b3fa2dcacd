"""The list: every behaviour of the CLI that the bridge relies on, and how each is shown.

A check raises `Lacking` where it sees something else. It uses a `Session` as the engine does, and
looks at what reached the model. No check relies on a behaviour that the bridge can do without.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bridge.core.claude import (
    MAX_RESULT_CHARACTERS,
    TOOL_PREFIX,
    AnswerReader,
    ExtraBody,
    Session,
    TurnSettings,
    exact_definitions,
    names_only,
)
from bridge.core.contract import Tool
from bridge.probe.stage import (
    OWN_LIMIT,
    OWN_WORDS,
    PLAIN,
    SYSTEM,
    Asked,
    Stage,
    Wire,
    assistant,
    conversation,
    new_mark,
    require,
    sim,
    text,
    user,
    wire_of,
)

if TYPE_CHECKING:
    from bridge.simulator import Exchange

Check = Callable[[Stage], Awaitable[None]]

LATE = "late:"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Something the CLI does, and how it is shown."""

    id: str
    sentence: str
    check: Check
    kind: str = "required"
    """`required`, `rewind`, or `late:` and the name of a field of `TurnSettings`."""
    at_start: Check | None = None
    """Of a late setting: whether it holds when a process is started with it."""

    @property
    def setting(self) -> str | None:
        """The field of `TurnSettings` that it is about, if it is about one."""
        return self.kind.removeprefix(LATE) if self.kind.startswith(LATE) else None


LIST_VERSION = 1
"""Counted up when the same ids come to stand for something else: kept results are void then."""

# 1 x 1, so that the CLI has no reason to make it smaller.
_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkM/hfDwAD/gHzQxt8WAAAAABJRU5ErkJg"
    "gg=="
)
_TOOLS = (
    Tool("first", "The first.", {"type": "object", "properties": {"n": {"type": "integer"}}}),
    Tool("second", "The second.", {"type": "object", "properties": {}}),
)


# What the CLI would change in the definitions of tools that it lists.
_EXACT_TOOLS = (
    Tool(
        "first",
        "その他\uff08要記入\uff09 10 m² Foo™ \u06cc\u200c\u0647\u0627 " + "long " * 2_000,
        {"type": "object", "properties": {"n": {"enum": ["\U0001f469\u200d\U0001f4bb", "\ue000"]}}},
    ),
    Tool("second", "", {"type": "object", "properties": {}}),
)


# Before initialize, and what a person's own settings do


async def _boots(stage: Stage) -> None:
    await stage.own_blank()


async def _preset(stage: Stage) -> None:
    system = (await stage.own_asked()).exchange.system_text
    require(len(system) > 3_000, f"the system prompt has {len(system)} characters")


async def _own_settings(stage: Stage) -> None:
    exchange = (await stage.own_asked()).exchange
    session = await stage.own_blank()
    await session.configure(TurnSettings(thinking=False))
    after_a_change = (await stage.ask(session)).exchange
    for seen in (exchange, after_a_change):
        for words in OWN_WORDS:
            require(not seen.contains(words), f"{words} reached the model")
        limit = seen.body["max_tokens"]
        require(limit != OWN_LIMIT, f"the person's own limit of {limit} tokens holds")
    require("haiku" in exchange.model, f"the person's default model is not used: {exchange.model}")


async def _facts(stage: Stage) -> None:
    facts = (await stage.warm()).facts
    require(facts is not None and bool(facts.version), "no version")
    assert facts is not None
    source = facts.account.get("tokenSource")
    require(source == "CLAUDE_CODE_OAUTH_TOKEN", f"the login is said to come from {source}")
    resolved = {model.get("value"): model.get("resolvedModel") for model in facts.models}
    require("default" in resolved, "no default model is named")
    require(
        all(str(name).startswith("claude-") for name in resolved.values()),
        f"the models are {resolved}",
    )


# What an upstream request carries


async def _system_prompt(stage: Stage) -> None:
    system = (await stage.ask(await stage.warm())).exchange.system_text
    require(SYSTEM in system, "it did not reach the model")
    require(len(system) < 1_000, "something of the preset is left")


async def _no_built_in_tools(stage: Stage) -> None:
    tools = (await stage.ask(await stage.warm())).exchange.tools
    require(not tools, f"{[tool.get('name') for tool in tools]} are offered")


async def _user_agent(stage: Stage) -> None:
    agent = (await stage.ask(await stage.warm())).exchange.headers.get("user-agent", "")
    require("claude-code-bridge/" in agent, f"it is {agent}")


async def _cache_breakpoints(stage: Stage) -> None:
    session = await stage.warm()
    await session.offer(_TOOLS)
    await session.replay((user("a"), assistant("b"), user("c"), assistant("d")))
    asked = await stage.ask(session)
    marks = list(_cache_controls(asked.exchange.body))
    require(len(marks) <= 4, f"there are {len(marks)}")
    ours = stage.launcher.cache_control
    require(all(mark == ours for mark in marks), f"they differ: {marks}")
    last = [message for message in asked.exchange.messages if message["role"] == "user"][-1]
    require(last["content"][-1].get("cache_control") == ours, "the last question has none")


def _cache_controls(value: object) -> Iterator[Wire]:
    if isinstance(value, dict):
        if isinstance(value.get("cache_control"), dict):
            yield value["cache_control"]
        for item in value.values():
            yield from _cache_controls(item)
    elif isinstance(value, list):
        for item in value:
            yield from _cache_controls(item)


# Conversations


async def _replay(stage: Stage) -> None:
    session = await stage.warm()
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": _PNG},
    }
    plain = {"type": "text", "media_type": "text/plain", "data": "Grüße"}
    document = {"type": "document", "source": plain, "title": "Letter"}
    history = (
        user("first", image, document),
        assistant("one moment", _call("toolu_1", city="Köln"), _call("toolu_2", n=[1, None])),
        user(
            _result("toolu_1", text("12 °C"), image),
            {**_result("toolu_2", text("no such place")), "is_error": True},
            "and tomorrow?",
        ),
        assistant("I do not know.\n\n  Sorry \U0001f600"),
        user("a", "b"),
        assistant("c"),
    )
    await session.replay(history)
    asked = await stage.ask(session)
    require(len(asked.exchanges) == 1, "the model was asked more than once")
    seen = conversation(asked.exchange)
    require(seen == wire_of((*history, asked.turn)), f"the model saw {_short(seen)}")


async def _as_written(stage: Stage) -> None:
    session = await stage.warm()
    secret = stage.folder / "secret.txt"
    secret.write_text("THE-WORDS-IN-THE-FILE")
    commands = (f"@{secret}", f"read @{secret} now", "/clear", "/model opus", "!echo a", "# a note")
    turns = [turn for words in commands for turn in (user(words), assistant("ok"))]
    await session.replay(turns)
    for words in commands:
        asked = await stage.ask(session, words)
        exchange = asked.exchange
        require(not exchange.contains("THE-WORDS-IN-THE-FILE"), f"{words} was read")
        seen = conversation(exchange)
        expected = wire_of((*turns, asked.turn))
        require(seen == expected, f"of {words} the model saw {_short(seen[-2:])}")
        turns += [asked.turn, assistant(_answer(asked))]


def _answer(asked: Asked) -> str:
    pieces = asked.events("content_block_delta")
    return "".join(piece["delta"].get("text", "") for piece in pieces)


# Answers


async def _partial_messages(stage: Stage) -> None:
    session = await stage.warm()
    mark = new_mark()
    # The model falls silent after three pieces, so they can only come one by one.
    await session.ask(user(mark + sim(tokens=4, hang_after=3)))
    lines = await stage.until_text(session, pieces=3)
    (exchange,) = stage.ledger.exchanges(containing=mark)
    require(exchange.ended is None, "the answer was held back to its end")
    deltas = Asked(user(mark), lines, (exchange,)).events("content_block_delta")
    texts = [delta["delta"].get("text") for delta in deltas]
    require(texts == ["w0 ", "w1 ", "w2 "], f"the pieces are {texts}")


async def _usage(stage: Stage) -> None:
    session = await stage.warm()
    asked = await stage.ask(session, say=sim(tokens=7))
    reader = AnswerReader(include_thinking=False)
    for line in asked.lines:
        list(reader.feed(line))
    sent = asked.exchange.usage or {}
    seen = reader.usage
    require(
        (seen.input_tokens, seen.cache_write_tokens, seen.output_tokens)
        == (
            sent.get("input_tokens"),
            sent.get("cache_creation_input_tokens"),
            sent.get("output_tokens"),
        )
        and seen.output_tokens >= 7,
        f"of {dict(sent)} came {seen}",
    )


async def _error_status(stage: Stage) -> None:
    session = await stage.warm()
    result = (await stage.ask(session, say=sim(error={"status": 400}))).result
    require(result.get("is_error") is True, "a failed call is not told as an error")
    status = result.get("api_error_status")
    require(status == 400, f"the status is {status}")


async def _interrupt(stage: Stage) -> None:
    session = await stage.warm()
    mark = new_mark()
    await session.ask(user(mark + sim(endless=True, delay_ms=5)))
    await stage.until_text(session)
    await session.stop()
    found = await stage.ledger.wait_for_async(
        lambda seen: all(exchange.ended for exchange in seen if exchange.contains(mark))
    )
    ended = [exchange.ended for exchange in found if exchange.contains(mark)]
    require(ended == ["client_closed"], f"the upstream request was {ended}")
    await _still_answers(stage, session)


async def _interrupt_queued(stage: Stage) -> None:
    session = await stage.warm()
    for _ in range(3):
        await session.ask(user(sim(endless=True, delay_ms=5)))
        await session.stop()
    await _still_answers(stage, session)


async def _still_answers(stage: Stage, session: Session) -> None:
    asked = await stage.ask(session, say=sim(text="still here"))
    require(_answer(asked) == "still here", "the next turn was not answered")


# Client tools


async def _client_tools(stage: Stage) -> None:
    session = await stage.warm()
    # Exchanged while the conversation is empty: in the middle of one the CLI leaves tools that
    # were withdrawn on the list, which is why the engine does not continue it then.
    await session.offer(_TOOLS[:1])
    await session.offer(_TOOLS[1:])
    await _only_offered(stage, session, _TOOLS[1:])
    for tools in (_TOOLS, ()):
        if not await session.reset():
            return
        await session.offer(tools)
        await _only_offered(stage, session, tools)


async def _only_offered(stage: Stage, session: Session, tools: Sequence[Tool]) -> None:
    offered = [
        (tool.get("name"), tool.get("description"), tool.get("input_schema"))
        for tool in (await stage.ask(session)).exchange.tools
    ]
    wanted = [(TOOL_PREFIX + t.name, t.description, dict(t.parameters)) for t in tools]
    require(offered == wanted, f"instead of {[t.name for t in tools]}: {_short(offered)}")


def _sent_exactly(exchange: Exchange) -> None:
    wanted = [json.loads(tool.as_json()) for tool in exact_definitions(_EXACT_TOOLS)]
    require(list(exchange.tools) == wanted, f"the model was offered {_short(exchange.tools)}")


async def _exact_tools(stage: Stage) -> None:
    session = await stage.warm()
    await session.offer(names_only(_EXACT_TOOLS))
    await session.configure(_with_body(tools=exact_definitions(_EXACT_TOOLS)))
    called = {"tools": [{"name": "first", "input": {"n": "\ue000"}, "fragment": 4}]}
    asked = await stage.ask(session, say=sim(turns=[called, {"text": "thanks"}]))
    _sent_exactly(asked.exchange)
    require(len(asked.calls) == 1, "it was not called")
    await session.park(asked.calls)
    mark = new_mark()
    await stage.resume(session, [_result(asked.calls[0], text(mark))])
    (exchange,) = stage.ledger.exchanges(containing=mark)
    _sent_exactly(exchange)
    await session.configure(_PLAIN)
    tools = (await stage.ask(session)).exchange.tools
    require(bool(tools) and not tools[0].get("description"), "they cannot be taken back")


async def _exact_tools_at_start(stage: Stage) -> None:
    async with stage.started_with(_with_body(tools=exact_definitions(_EXACT_TOOLS))) as session:
        await session.offer(names_only(_EXACT_TOOLS))
        _sent_exactly((await stage.ask(session)).exchange)


async def _parked_calls(stage: Stage) -> None:
    session = await stage.warm()
    calls = await _called(stage, session, "first", "second")
    await session.park(calls)
    await session.stop()
    await _still_answers(stage, session)


async def _resumed_calls(stage: Stage) -> None:
    session = await stage.warm()
    calls = await _called(stage, session, "first", "second")
    await session.park(calls)
    mark = new_mark()
    results = [_result(call, text(f"{mark} {n}")) for n, call in enumerate(calls)]
    await stage.resume(session, results)
    (exchange,) = stage.ledger.exchanges(containing=mark)
    seen = conversation(exchange)[-1]
    require(seen == ("user", results), f"the model saw {_short(seen)}")


async def _large_results(stage: Stage) -> None:
    session = await stage.warm()
    calls = await _called(stage, session, "first")
    await session.park(calls)
    mark = new_mark()
    words = (mark + " 0123456789" * (MAX_RESULT_CHARACTERS // 11))[:MAX_RESULT_CHARACTERS]
    await stage.resume(session, [_result(calls[0], text(words))])
    exchanges = stage.ledger.exchanges(containing=mark)
    require(bool(exchanges) and exchanges[0].contains(words), "it was shortened")


async def _called(stage: Stage, session: Session, *names: str) -> list[str]:
    """Make the model call these tools; the calls' ids."""
    await session.offer(_TOOLS)
    called = {"tools": [{"name": name} for name in names]}
    asked = await stage.ask(session, say=sim(turns=[called, {"text": "thanks"}]))
    require(len(asked.calls) == len(names), f"the calls are {asked.calls}")
    return asked.calls


def _call(call_id: str, **arguments: Any) -> Wire:
    return {
        "type": "tool_use",
        "id": call_id,
        "name": f"{TOOL_PREFIX}first",
        "input": arguments,
    }


def _result(call_id: str, *content: Wire) -> Wire:
    return {"type": "tool_result", "tool_use_id": call_id, "content": list(content)}


# Emptying a conversation


async def _rewind_after_answers(stage: Stage) -> None:
    session = await stage.warm()
    await session.replay((user("old"), assistant("old"), user("old"), assistant("old")))
    await stage.ask(session)
    await _nothing_is_left(stage, session)


async def _rewind_after_interrupt(stage: Stage) -> None:
    session = await stage.warm()
    await session.ask(user(sim(endless=True, delay_ms=5)))
    await stage.until_text(session)
    await session.stop()
    await _nothing_is_left(stage, session)


async def _rewind_after_tools(stage: Stage) -> None:
    session = await stage.warm()
    await session.replay(
        (user("old"), assistant(_call("toolu_1")), user(_result("toolu_1")), assistant("old"))
    )
    calls = await _called(stage, session, "first")
    await session.park(calls)
    await stage.resume(session, [_result(calls[0], text("old"))])
    calls = await _called(stage, session, "first")
    await session.park(calls)
    await session.stop()
    await _nothing_is_left(stage, session)


async def _nothing_is_left(stage: Stage, session: Session) -> None:
    require(await session.reset(), "it was not confirmed")
    asked = await stage.ask(session)
    seen = conversation(asked.exchange)
    require(seen == wire_of((asked.turn,)), f"the model saw {_short(seen)}")


# Settings of a running process

_OTHER_LIMIT = 4_321
_PLAIN = TurnSettings()


def _late(
    id: str,
    sentence: str,
    setting: str,
    wanted: TurnSettings,
    holds: Callable[[Sequence[Exchange]], bool],
    *,
    plain: TurnSettings = _PLAIN,
    tools: Sequence[Tool] = (),
    say: str = PLAIN,
) -> Behaviour:
    """A setting that is set, stays when another one changes, and is taken back again.

    `holds` tells from a turn's upstream calls whether `wanted` is in force; with `plain` it is not.
    """

    async def seen(stage: Stage, session: Session) -> bool:
        asked = await stage.ask(session, say=say)
        if asked.calls:
            await session.stop()
        require(bool(asked.exchanges), "nothing reached the model")
        return holds(asked.exchanges)

    async def check(stage: Stage) -> None:
        session = await stage.warm()
        await session.offer(tools)
        await session.configure(wanted)
        require(await seen(stage, session), "it has no effect")
        other = (
            replace(wanted, thinking=not wanted.thinking)
            if setting == "max_output_tokens"
            else replace(wanted, max_output_tokens=_OTHER_LIMIT)
        )
        await session.configure(other)
        require(await seen(stage, session), "it is lost when another setting changes")
        await session.configure(plain)
        require(not await seen(stage, session), "it cannot be taken back")

    async def at_start(stage: Stage) -> None:
        async with stage.started_with(wanted) as session:
            await session.offer(tools)
            require(await seen(stage, session), "it has no effect")

    return Behaviour(id, sentence, check, f"{LATE}{setting}", at_start)


def _field(name: str, *values: object) -> Callable[[Sequence[Exchange]], bool]:
    return lambda exchanges: exchanges[0].body.get(name) in values


def _thinking_off(exchanges: Sequence[Exchange]) -> bool:
    # The edit that goes with thinking is refused without it.
    body = exchanges[0].body
    return (body.get("thinking") or {}).get("type", "disabled") == "disabled" and (
        "clear_thinking" not in json.dumps(body.get("context_management"))
    )


def _effort_low(exchanges: Sequence[Exchange]) -> bool:
    return bool((exchanges[0].body.get("output_config") or {}).get("effort") == "low")


def _forced(exchanges: Sequence[Exchange]) -> bool:
    choice = exchanges[0].body.get("tool_choice")
    return bool(choice == {"type": "tool", "name": f"{TOOL_PREFIX}second"})


def _formatted(exchanges: Sequence[Exchange]) -> bool:
    form = (exchanges[0].body.get("output_config") or {}).get("format")
    return bool(form == {"type": "json_schema", "schema": json.loads(_SCHEMA)})


def _sampled(exchanges: Sequence[Exchange]) -> bool:
    body = exchanges[0].body
    return body.get("temperature") == 0.25 or body.get("top_p") == 0.75


# It takes everything that newer models refuse: sampling, and tools that it is made to call.
_TAKES_ALL = TurnSettings(model="claude-haiku-4-5", thinking=False)
_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
)


def _with_body(**fields: Any) -> TurnSettings:
    return replace(_TAKES_ALL, extra_body=ExtraBody(**fields))


def _short(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 300 else f"{words[:300]}…"


BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour(
        "boots",
        "A process answers, and takes settings, before it is initialised.",
        _boots,
    ),
    Behaviour(
        "preset",
        "Without a system prompt Claude Code's own preset is used.",
        _preset,
    ),
    Behaviour(
        "own-settings",
        "Of a person's own settings only the default model reaches a conversation.",
        _own_settings,
    ),
    Behaviour(
        "facts",
        "On initialize the version, the login and the models on offer are told.",
        _facts,
    ),
    Behaviour(
        "rewind-after-answers",
        "A conversation is emptied by rewinding it, and nothing of it is left.",
        _rewind_after_answers,
        "rewind",
    ),
    Behaviour(
        "rewind-after-interrupt",
        "The same after an answer that was interrupted.",
        _rewind_after_interrupt,
        "rewind",
    ),
    Behaviour(
        "rewind-after-tools",
        "The same after calls of tools, answered and unanswered.",
        _rewind_after_tools,
        "rewind",
    ),
    Behaviour(
        "system-prompt",
        "A system prompt given at initialize takes the place of the preset.",
        _system_prompt,
    ),
    Behaviour(
        "no-built-in-tools",
        "All built-in tools can be turned off.",
        _no_built_in_tools,
    ),
    Behaviour(
        "user-agent",
        "The upstream request names the bridge in its User-Agent.",
        _user_agent,
    ),
    Behaviour(
        "cache-breakpoints",
        "With the bridge's own, a request has at most four cache breakpoints, of one duration.",
        _cache_breakpoints,
    ),
    Behaviour(
        "replay",
        "Earlier turns reach the model as they are and in order: texts, calls, results, images "
        "and documents.",
        _replay,
    ),
    Behaviour(
        "as-written",
        "What looks like a command or a file's name is neither run nor read.",
        _as_written,
    ),
    Behaviour(
        "partial-messages",
        "An answer comes piece by piece, as the model speaks.",
        _partial_messages,
    ),
    Behaviour(
        "usage",
        "The counts of tokens come with the beginning and the end of an answer.",
        _usage,
    ),
    Behaviour(
        "error-status",
        "A failed upstream call is told with its HTTP status.",
        _error_status,
    ),
    Behaviour(
        "interrupt",
        "An interrupt ends the turn and closes the upstream connection.",
        _interrupt,
    ),
    Behaviour(
        "interrupt-queued",
        "A line that was not begun with when it was to be interrupted is named, and ends too.",
        _interrupt_queued,
    ),
    Behaviour(
        "client-tools",
        "The caller's tools can be offered, exchanged and withdrawn between conversations.",
        _client_tools,
    ),
    Behaviour(
        "parked-calls",
        "Several calls in one answer are made at once, wait as long as wanted, and end with an "
        "interrupt.",
        _parked_calls,
    ),
    Behaviour(
        "resumed-calls",
        "A turn goes on with the results of its calls, all of them and in order.",
        _resumed_calls,
    ),
    Behaviour(
        "large-results",
        f"A result of {MAX_RESULT_CHARACTERS:,} characters reaches the model unchanged.",
        _large_results,
    ),
    _late(
        "late-model",
        "The model can be changed on a running process.",
        "model",
        TurnSettings(model="claude-haiku-4-5"),
        _field("model", "claude-haiku-4-5"),
    ),
    _late(
        "late-effort",
        "The effort can be changed on a running process.",
        "effort",
        TurnSettings(effort="low"),
        _effort_low,
    ),
    _late(
        "late-max-output-tokens",
        "The most tokens of an answer can be changed on a running process.",
        "max_output_tokens",
        TurnSettings(max_output_tokens=1_234),
        _field("max_tokens", 1_234),
    ),
    _late(
        "late-thinking",
        "Thinking can be turned off and on again on a running process.",
        "thinking",
        TurnSettings(thinking=False),
        _thinking_off,
    ),
    _late(
        "late-retries",
        "The number of retries can be changed on a running process.",
        "retries",
        TurnSettings(retries=0),
        lambda exchanges: len(exchanges) == 1,
        plain=TurnSettings(retries=1),
        say=sim(error={"status": 529}),
    ),
    _late(
        "late-temperature",
        "The temperature can be changed on a running process.",
        "extra_body",
        _with_body(temperature=0.25),
        _sampled,
    ),
    _late(
        "late-top-p",
        "top_p can be changed on a running process.",
        "extra_body",
        _with_body(top_p=0.75),
        _sampled,
    ),
    _late(
        "late-stop-sequences",
        "Stop sequences can be changed on a running process.",
        "extra_body",
        _with_body(stop_sequences=("#+#",)),
        _field("stop_sequences", ["#+#"]),
    ),
    _late(
        "late-tool-choice",
        "The choice of tools can be changed on a running process.",
        "extra_body",
        _with_body(tool_choice=json.dumps({"type": "tool", "name": f"{TOOL_PREFIX}second"})),
        _forced,
        tools=_TOOLS,
    ),
    _late(
        "late-output-format",
        "The JSON schema of an answer can be changed on a running process.",
        "extra_body",
        _with_body(output_schema=_SCHEMA),
        _formatted,
    ),
    Behaviour(
        "late-tools",
        "Definitions of tools can be given on a running process as they are to reach the model, "
        "and are called, exact to the character.",
        _exact_tools,
        f"{LATE}extra_body",
        _exact_tools_at_start,
    ),
)
"""The list, in the order in which it is tried."""
