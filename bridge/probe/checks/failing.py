"""Upstream calls that fail."""

from __future__ import annotations

from bridge.core.contract import Tool
from bridge.probe.stage import Stage, new_mark, require, sim, user

_TOOL = Tool("first", "The first.", {"type": "object", "properties": {}})
_LONG = 300
_FULL_WINDOW = 990_000


async def failure_kinds(stage: Stage) -> None:
    """The synthetic answer has the kind of a failure, and the result a narrower one."""
    session = await stage.warm()
    asked = await stage.ask(session, say=sim(error="credit"))
    errors = [line["error"] for line in asked.lines if "error" in line]
    require(errors == ["billing_error"], f"the kinds of a failure are {errors}")
    kind = (await stage.ask(session, say=sim(error="long_context"))).result.get("api_error")
    require(kind == "long_context_credits_required", f"the narrow kind of a failure is {kind}")


async def no_second_call(stage: Stage) -> None:
    """A stream that fails before its first block is not retried without streaming."""
    session = await stage.warm()
    asked = await stage.ask(session, say=sim(text="words", end_after="headers"))
    require(asked.result.get("is_error") is True, "an answer without events is not a failure")
    streamed = {exchange.body.get("stream") for exchange in asked.exchanges}
    require(streamed == {True}, "a failed call was retried without streaming")


async def broken_off(stage: Stage) -> None:
    """A stream that is cut after a complete call ends, but without a stop reason of the model."""
    session = await stage.warm()
    await session.offer((_TOOL,))
    calls = [{"name": _TOOL.name, "raw": "{}"}]
    await session.ask(user(new_mark() + sim(tools=calls, end_after="content")))
    kinds: list[str] = []
    while "message_stop" not in kinds:
        line = await session.receive()
        require(line["type"] != "result", "the turn ended before its answer")
        if line["type"] == "stream_event":
            kinds.append(line["event"]["type"])
    require("message_delta" not in kinds, "an answer that was cut looks complete")
    await session.stop()


async def refused_once(stage: Stage) -> None:
    """A refusal is the answer."""
    session = await stage.warm()
    asked = await stage.ask(session, say=sim(text="I cannot.", stop_reason="refusal"))
    require(len(asked.exchanges) == 1, "a refused request is sent again")


async def no_compaction(stage: Stage) -> None:
    """A conversation that fills the window is not replaced by a summary of it."""
    session = await stage.warm()
    await stage.ask(session, say=sim(text="much", usage={"input_tokens": _FULL_WINDOW}))
    before = len(stage.ledger.exchanges())
    await stage.ask(session)
    require(len(stage.ledger.exchanges()) == before, "the conversation is summarised")


async def reported_waits(stage: Stage) -> None:
    """The delay that the API asks for is reported, whatever its length."""
    session = await stage.warm()
    error = {"kind": "overloaded", "headers": {"retry-after": str(_LONG)}}
    await session.ask(user(new_mark() + sim(error=error)))
    while (line := await session.receive()).get("subtype") != "api_retry":
        require(line["type"] != "result", "the turn ended without reporting the delay")
    delay = line.get("retry_delay_ms")
    require(isinstance(delay, int) and delay >= _LONG * 1000, f"the delay is {delay} ms")
    await session.stop()
