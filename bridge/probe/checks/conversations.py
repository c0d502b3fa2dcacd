"""Turns that are replayed, answered, interrupted and rewound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.core.claude import (
    AnswerReader,
    Session,
)
from bridge.probe.stage import (
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
    pass
from bridge.probe.checks.settings import short

# 1 x 1, so that the CLI has no reason to scale it down.
_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkM/hfDwAD/gHzQxt8WAAAAABJRU5ErkJg"
    "gg=="
)


async def replay(stage: Stage) -> None:
    session = await stage.warm()
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": _PNG},
    }
    plain = {"type": "text", "media_type": "text/plain", "data": "Grüße"}
    document = {"type": "document", "source": plain, "title": "Letter"}
    history = (
        user("first", image, document),
        assistant("one moment", call("toolu_1", city="Köln"), call("toolu_2", n=[1, None])),
        user(
            result("toolu_1", text("12 °C"), image),
            {**result("toolu_2", text("no such place")), "is_error": True},
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
    require(seen == wire_of((*history, asked.turn)), f"the model saw {short(seen)}")


async def as_written(stage: Stage) -> None:
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
        require(seen == expected, f"for {words} the model saw {short(seen[-2:])}")
        turns += [asked.turn, assistant(_answer(asked))]


def _answer(asked: Asked) -> str:
    pieces = asked.events("content_block_delta")
    return "".join(piece["delta"].get("text", "") for piece in pieces)


async def partial_messages(stage: Stage) -> None:
    session = await stage.warm()
    mark = new_mark()
    # The model pauses after three pieces, so they must arrive one by one.
    await session.ask(user(mark + sim(tokens=4, hang_after=3)))
    lines = await stage.until_text(session, pieces=3)
    (exchange,) = stage.ledger.exchanges(containing=mark)
    require(exchange.ended is None, "the answer was held back to its end")
    deltas = Asked(user(mark), lines, (exchange,)).events("content_block_delta")
    texts = [delta["delta"].get("text") for delta in deltas]
    require(texts == ["w0 ", "w1 ", "w2 "], f"the pieces are {texts}")


async def usage(stage: Stage) -> None:
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
        f"sent {dict(sent)}, received {seen}",
    )


async def counted(stage: Stage) -> None:
    """The count grows with the conversation, and the model is not asked."""
    session = await stage.warm()
    before = len(stage.ledger.exchanges())
    few = await session.count_tokens((user("one"),))
    require(await session.reset(), "counting leaves something behind")
    many = await session.count_tokens((user("one"), assistant("two " * 400), user("three")))
    require(many >= few + 300, f"{few} and {many} tokens were counted")
    require(len(stage.ledger.exchanges()) == before, "the model is asked in order to count")


async def costs(stage: Stage) -> None:
    """The running total can be asked for within an answer, and has its cost at its end."""
    session = await stage.warm()
    await session.book()
    await session.ask(user(sim(endless=True, delay_ms=5)))
    await stage.until_text(session)
    within = await session.unbooked()
    require(within.known, "the cost is not reported within an answer")
    await session.stop()
    cost = await session.book()
    require(cost.known and cost.usd > 0, f"the cost of an answer is {cost.rounded_usd}")


async def error_status(stage: Stage) -> None:
    session = await stage.warm()
    result = (await stage.ask(session, say=sim(error={"status": 400}))).result
    require(result.get("is_error") is True, "a failed call is not reported as an error")
    status = result.get("api_error_status")
    require(status == 400, f"the status is {status}")


async def interrupt(stage: Stage) -> None:
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
    await still_answers(stage, session)


async def interrupt_queued(stage: Stage) -> None:
    session = await stage.warm()
    for _ in range(3):
        await session.ask(user(sim(endless=True, delay_ms=5)))
        await session.stop()
    await still_answers(stage, session)


async def still_answers(stage: Stage, session: Session) -> None:
    asked = await stage.ask(session, say=sim(text="still here"))
    require(_answer(asked) == "still here", "the next turn was not answered")


def call(call_id: str, **arguments: Any) -> Wire:
    return {
        "type": "tool_use",
        "id": call_id,
        "name": "first",
        "input": arguments,
    }


def result(call_id: str, *content: Wire) -> Wire:
    return {"type": "tool_result", "tool_use_id": call_id, "content": list(content)}
