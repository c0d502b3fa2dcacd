"""Calls that Claude Code makes by itself after an answer are in the record of the request."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.support.harness import RunningEngine, sim, user

KINDS: dict[str, dict[str, Any]] = {
    "empty": {"text": ""},
    "thinking": {"thinking": "Hm.", "text": ""},
    "max_tokens": {"text": "It is cut", "stop_reason": "max_tokens"},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_after_the_answer_is_counted_and_its_answer_is_not_passed_on(
    engine: RunningEngine, kind: str
) -> None:
    note = uuid.uuid4().hex
    turns = [KINDS[kind], {"text": "a second answer"}]
    parked = engine.engine.pool.counts()["parked"]
    # It is usually sent before an interrupt can reach Claude Code.
    for _ in range(5):
        answer = await engine.ask(user(sim(turns=turns, note=note)))
        assert answer.text == KINDS[kind]["text"]
        assert answer.reason == ("length" if kind == "max_tokens" else "stop")
        await engine.settled()
        if answer.record["unseen_calls"]:
            break
    else:
        pytest.fail("no second call was counted")
    assert answer.record["unseen_calls"] == 1
    first = engine.upstream(note)[0].usage
    assert first is not None
    assert answer.usage.input_tokens >= first["input_tokens"]
    assert answer.record["input_tokens"] == answer.usage.input_tokens
    # Its process was wiped, not parked with text that the caller has not seen.
    assert engine.engine.pool.counts()["parked"] == parked


async def test_other_answers_have_none(engine: RunningEngine) -> None:
    answer = await engine.ask(user(sim(text="All of it.")))
    assert answer.record["unseen_calls"] is None
