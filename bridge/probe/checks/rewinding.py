"""Rewinding a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.core.claude import (
    Session,
)
from bridge.probe.stage import (
    Stage,
    assistant,
    conversation,
    require,
    sim,
    text,
    user,
    wire_of,
)

if TYPE_CHECKING:
    pass
from bridge.probe.checks.conversations import call, result
from bridge.probe.checks.settings import short
from bridge.probe.checks.tools import called


async def rewind_after_answers(stage: Stage) -> None:
    session = await stage.warm()
    await session.replay((user("old"), assistant("old"), user("old"), assistant("old")))
    await stage.ask(session)
    await _nothing_is_left(stage, session)


async def rewind_after_interrupt(stage: Stage) -> None:
    session = await stage.warm()
    await session.ask(user(sim(endless=True, delay_ms=5)))
    await stage.until_text(session)
    await session.stop()
    await _nothing_is_left(stage, session)


async def rewind_after_tools(stage: Stage) -> None:
    session = await stage.warm()
    await session.replay(
        (user("old"), assistant(call("toolu_1")), user(result("toolu_1")), assistant("old"))
    )
    calls = await called(stage, session, "first")
    await session.park(calls)
    await stage.resume(session, [result(calls[0], text("old"))])
    calls = await called(stage, session, "first")
    await session.park(calls)
    await session.stop()
    await _nothing_is_left(stage, session)


async def _nothing_is_left(stage: Stage, session: Session) -> None:
    require(await session.reset(), "it was not confirmed")
    asked = await stage.ask(session)
    seen = conversation(asked.exchange)
    require(seen == wire_of((asked.turn,)), f"the model saw {short(seen)}")
