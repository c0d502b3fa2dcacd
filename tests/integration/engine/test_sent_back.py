"""Regression tests for faults that the list of requirements brought to light."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.core.contract.errors import PlanLimitError
from bridge.core.contract.request import Sampling, TextPart, Tool, ToolCallPart, ToolResultPart
from bridge.core.pool.policy import PoolLimits
from tests.support.harness import RunningEngine, assistant, running_engine, sim, user

SONNET = "claude-sonnet-4-6"


@pytest.fixture
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningEngine]:
    """An engine that has learned nothing yet, with one turn at a time."""
    folder = tmp_path_factory.mktemp("engine")
    async with running_engine(folder, PoolLimits(1, 2, 0)) as running:
        yield running


def marker() -> str:
    return uuid.uuid4().hex


def results(engine: RunningEngine, mark: str) -> list[Any]:
    """Return the tool results that reached the model."""
    exchange = engine.upstream(mark)[-1]
    return [
        block["content"]
        for message in exchange.messages
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]


async def test_ids_that_come_again_lose_no_result(engine: RunningEngine) -> None:
    mark = marker()
    rounds = [
        message
        for answer in ("first", "second")
        for message in (
            assistant(ToolCallPart("call_0", "look", "{}")),
            user(ToolResultPart("call_0", (TextPart(answer),))),
        )
    ]
    await engine.ask(user(mark), *rounds, tools=(Tool("look"),))
    assert [result[0]["text"] for result in results(engine, mark)] == ["first", "second"]


async def test_a_small_top_p_is_left_out_and_named(engine: RunningEngine) -> None:
    """With thinking the API accepts no top_p below 0.95. Without, the CLI adds a temperature, and
    the API accepts only one of the two."""
    answer = await engine.ask(user(sim(text="ok")), model=SONNET, sampling=Sampling(top_p=0.25))
    assert answer.text == "ok"
    assert "sampling.top_p" in answer.ignored


async def test_both_kinds_of_sampling_at_once_do_not_spoil_each_alone(
    engine: RunningEngine,
) -> None:
    both = Sampling(temperature=0.5, top_p=0.97)
    await engine.ask(user(sim(text="ok")), model=SONNET, sampling=both)
    mark = marker()
    answer = await engine.ask(
        user(mark + sim(text="ok")), model=SONNET, sampling=Sampling(temperature=0.5)
    )
    assert "temperature" not in answer.ignored
    assert engine.upstream(mark)[-1].body["temperature"] == 0.5


async def test_a_usage_limit_is_reported_to_every_request(engine: RunningEngine) -> None:
    reached = {
        "anthropic-ratelimit-unified-status": "rejected",
        "anthropic-ratelimit-unified-reset": str(int(time.time()) + 7200),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
    }
    for number in range(2):
        question = sim(error={"status": 429, "headers": reached}, note=str(number))
        with pytest.raises(PlanLimitError) as caught:
            await engine.ask(user(question))
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 3600
