"""Tokens of a request are counted without an answer, and nothing of it stays."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from bridge.core.access.keys import KeyLimits
from bridge.core.claude.control import ControlError
from bridge.core.claude.session import Session
from bridge.core.contract.errors import (
    DeadlineError,
    InvalidRequestError,
    PermissionDeniedError,
    ProcessFailedError,
)
from bridge.core.contract.request import (
    CompletionRequest,
    Message,
    OutputFormat,
    OutputKind,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.pool.policy import PoolLimits
from tests.support.harness import RunningEngine, assistant, running_engine, sim, user

SYSTEM = "You count."
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "description": "word " * 400}}}
TOOL = Tool("pick", "Picks a word. " * 100, {"type": "object", "properties": {}})


def asking(*messages: Message, **options: object) -> CompletionRequest:
    return CompletionRequest(messages, **{"system": SYSTEM, **options})  # type: ignore[arg-type]


async def test_a_count_is_about_what_the_answer_then_uses(engine: RunningEngine) -> None:
    messages = (
        user("Hello. " * 500),
        assistant("I look.", ToolCallPart("toolu_1", "pick", '{"a": "b"}')),
        user(ToolResultPart("toolu_1", (TextPart("found " * 300),)), "And now? " + sim(text="x")),
    )
    counted = await engine.engine.count_tokens(
        asking(*messages, tools=(TOOL,), caller=engine.caller)
    )
    answer = await engine.ask(*messages, system=SYSTEM, tools=(TOOL,))
    # What Claude Code adds by itself to a request is not counted.
    assert counted < answer.usage.prompt_tokens < counted + 1_000
    assert counted > 1_500


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("system", "A long system prompt. " * 200),
        ("tools", (TOOL,)),
        ("output_format", OutputFormat(OutputKind.JSON_SCHEMA, "n", SCHEMA)),
    ],
)
async def test_whatever_is_part_of_the_input_counts(
    engine: RunningEngine, option: str, value: object
) -> None:
    question = user("Hi")
    less = await engine.engine.count_tokens(asking(question))
    more = await engine.engine.count_tokens(asking(question, **{option: value}))
    assert more > less + 250


async def test_nothing_is_answered_and_nothing_stays(engine: RunningEngine) -> None:
    marker = uuid.uuid4().hex
    await engine.engine.count_tokens(asking(user(marker)))
    assert engine.upstream(marker) == []
    await engine.settled()
    assert (await engine.ask(user(sim(text="ok")), system=SYSTEM)).text == "ok"
    assert engine.upstream(marker) == []


async def test_a_parked_conversation_is_still_there_after_it_was_counted(
    engine: RunningEngine,
) -> None:
    first = user("question " + sim(text="one"))
    answer = await engine.ask(first, system=SYSTEM)
    await engine.settled()
    messages = (first, answer.message, user("more " + sim(text="two")))
    await engine.engine.count_tokens(asking(*messages, caller=engine.caller))
    await engine.settled()
    again = await engine.ask(*messages, system=SYSTEM)
    assert (again.text, again.session) == ("two", "continued")


async def test_a_request_that_cannot_be_answered_cannot_be_counted(engine: RunningEngine) -> None:
    request_id = uuid.uuid4().hex
    orphan = user(ToolResultPart("toolu_none", (TextPart("x"),)))
    with pytest.raises(InvalidRequestError):
        await engine.engine.count_tokens(asking(orphan, request_id=request_id))
    recorded = [line for line in engine.records() if line["request_id"] == request_id]
    assert [line["error"] for line in recorded] == ["INVALID_VALUE"]


async def test_a_key_counts_for_its_own_models_only(
    engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = KeyLimits(models=("haiku",))
    monkeypatch.setattr(engine.engine.resources.quotas, "limits_of", lambda caller: limits)
    with pytest.raises(PermissionDeniedError):
        await engine.engine.count_tokens(asking(user("Hi"), model="opus"))
    assert await engine.engine.count_tokens(asking(user("Hi"), model="haiku")) > 0


async def test_a_process_that_fails_to_count_is_replaced_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Session.count_tokens
    failures = [1]

    async def failing(self: Session, *asked: object) -> int:
        if failures[0] > 0:
            failures[0] -= 1
            raise ControlError("it does not count")
        return await count(self, *asked)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "count_tokens", failing)
    async with running_engine(tmp_path, PoolLimits(1, 3, 1)) as engine:
        assert await engine.engine.count_tokens(asking(user("Hi"))) > 0
        failures[0] = 2
        with pytest.raises(ProcessFailedError):
            await engine.engine.count_tokens(asking(user("Hi")))


async def test_a_count_that_takes_too_long_ends_and_frees_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(self: Session, turns: object, model: str) -> int:
        await asyncio.Event().wait()
        return 0

    async with running_engine(tmp_path, PoolLimits(1, 3, 1)) as engine:
        # Then a process is free.
        await engine.engine.count_tokens(asking(user("Hi")))
        await engine.settled()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "count_tokens", stuck)
            with pytest.raises(DeadlineError, match="did not count the tokens within 2 seconds"):
                await engine.engine.count_tokens(asking(user("Hi"), first_token_timeout=2))
        await engine.settled()
        assert await engine.engine.count_tokens(asking(user("Hi"))) > 0
