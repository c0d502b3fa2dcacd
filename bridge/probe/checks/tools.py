"""The caller's tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.core.claude import (
    MAX_RESULT_CHARACTERS,
    Session,
    exact_definitions,
    names_only,
)
from bridge.core.contract import Tool
from bridge.probe.stage import (
    Stage,
    conversation,
    new_mark,
    require,
    sim,
    text,
)

if TYPE_CHECKING:
    from bridge.simulator import Exchange
from bridge.probe.checks.conversations import result, still_answers
from bridge.probe.checks.settings import _PLAIN, short, with_body

TOOLS = (
    Tool("first", "The first.", {"type": "object", "properties": {"n": {"type": "integer"}}}),
    Tool("second", "The second.", {"type": "object", "properties": {}}),
)


# So much that the CLI would hold tools back behind a search, and cut a description.
_MANY = tuple(
    Tool(
        f"tool_{number:02}",
        "word" + " word" * (12_000 if number == 0 else 600),
        {"type": "object", "properties": {}},
    )
    for number in range(60)
)

# Definitions that the CLI would change in the tools that it lists.
_EXACT_TOOLS = (
    Tool(
        "first",
        "その他\uff08要記入\uff09 10 m² Foo™ \u06cc\u200c\u0647\u0627 " + "long " * 2_000,
        {"type": "object", "properties": {"n": {"enum": ["\U0001f469\u200d\U0001f4bb", "\ue000"]}}},
    ),
    Tool("second", "", {"type": "object", "properties": {}}),
)


async def client_tools(stage: Stage) -> None:
    session = await stage.warm()
    # Replaced while the conversation is empty: in a later turn the CLI keeps withdrawn tools on the
    # list, which is why the engine then does not continue the conversation.
    await session.offer(TOOLS[:1])
    await session.offer(TOOLS[1:])
    await _only_offered(stage, session, TOOLS[1:])
    for tools in (TOOLS, (), TOOLS[:1]):
        if not await session.reset():
            return
        await session.offer(tools)
        await _only_offered(stage, session, tools)


async def _only_offered(stage: Stage, session: Session, tools: Sequence[Tool]) -> None:
    offered = [
        (tool.get("name"), tool.get("description"), tool.get("input_schema"))
        for tool in (await stage.ask(session)).exchange.tools
    ]
    wanted = [(t.name, t.description, dict(t.parameters)) for t in tools]
    require(offered == wanted, f"instead of {[t.name for t in tools]}: {short(offered)}")


def _sent_exactly(exchange: Exchange) -> None:
    wanted = [json.loads(tool.as_json()) for tool in exact_definitions(_EXACT_TOOLS)]
    require(list(exchange.tools) == wanted, f"the model was offered {short(exchange.tools)}")


async def whole_tools(stage: Stage) -> None:
    session = await stage.warm()
    await session.offer(_MANY)
    await _only_offered(stage, session, _MANY)


async def exact_tools(stage: Stage) -> None:
    session = await stage.warm()
    await session.offer(names_only(_EXACT_TOOLS))
    await session.configure(with_body(tools=exact_definitions(_EXACT_TOOLS)))
    called = {"tools": [{"name": "first", "input": {"n": "\ue000"}, "fragment": 4}]}
    asked = await stage.ask(session, say=sim(turns=[called, {"text": "thanks"}]))
    _sent_exactly(asked.exchange)
    require(len(asked.calls) == 1, "it was not called")
    await session.park(asked.calls)
    mark = new_mark()
    await stage.resume(session, [result(asked.calls[0], text(mark))])
    (exchange,) = stage.ledger.exchanges(containing=mark)
    _sent_exactly(exchange)
    await session.configure(_PLAIN)
    tools = (await stage.ask(session)).exchange.tools
    require(bool(tools) and not tools[0].get("description"), "they cannot be unset")


async def parked_calls(stage: Stage) -> None:
    session = await stage.warm()
    calls = await called(stage, session, "first", "second")
    await session.park(calls)
    await session.stop()
    await still_answers(stage, session)


async def resumed_calls(stage: Stage) -> None:
    session = await stage.warm()
    calls = await called(stage, session, "first", "second")
    await session.park(calls)
    mark = new_mark()
    results = [result(call, text(f"{mark} {n}")) for n, call in enumerate(calls)]
    await stage.resume(session, results)
    (exchange,) = stage.ledger.exchanges(containing=mark)
    seen = conversation(exchange)[-1]
    require(seen == ("user", results), f"the model saw {short(seen)}")


async def large_results(stage: Stage) -> None:
    session = await stage.warm()
    calls = await called(stage, session, "first")
    await session.park(calls)
    mark = new_mark()
    words = (mark + " 0123456789" * (MAX_RESULT_CHARACTERS // 11))[:MAX_RESULT_CHARACTERS]
    await stage.resume(session, [result(calls[0], text(words))])
    exchanges = stage.ledger.exchanges(containing=mark)
    require(bool(exchanges) and exchanges[0].contains(words), "it was shortened")


async def called(stage: Stage, session: Session, *names: str) -> list[str]:
    """Make the model call these tools; return the ids of the calls."""
    await session.offer(TOOLS)
    called = {"tools": [{"name": name} for name in names]}
    asked = await stage.ask(session, say=sim(turns=[called, {"text": "thanks"}]))
    require(len(asked.calls) == len(names), f"the calls are {asked.calls}")
    return asked.calls
