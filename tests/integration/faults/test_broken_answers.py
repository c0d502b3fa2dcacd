"""Answers that end prematurely, and calls that fail before their first word, with the real CLI."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from bridge.core.contract import RateLimitedError, Tool, UnavailableError
from bridge.core.pool.policy import PoolLimits
from tests.support.front_ends import KINDS, Apis, both_apis
from tests.support.harness import LONG, RunningEngine, running_engine, sim, user
from tests.support.replies import Failure

PICK = Tool("pick", "Picks one.", {"type": "object"})
CALL = [{"name": "pick", "input": {"size": "large"}}]


@dataclass(frozen=True)
class Stage:
    """An engine with both APIs."""

    engine: RunningEngine
    apis: Apis

    async def fails(self, kind: str, directive: str, **asked: Any) -> Failure:
        """Ask for what fails, and see that the next request is answered."""
        failure = await self.apis.ask(kind, directive, **asked)
        assert isinstance(failure, Failure), failure
        assert await self.apis.ask(kind, sim(text="next")) == "next"
        return failure


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(
            running_engine(tmp_path_factory.mktemp("broken"), PoolLimits(2, 4, 1))
        )
        apis = await stack.enter_async_context(both_apis(engine.engine))
        yield Stage(engine, apis)


@pytest.mark.parametrize("kind", ["whole", "grpc"])
@pytest.mark.parametrize(
    "tools", [pytest.param([], id="text"), pytest.param(CALL, id="call", marks=LONG)]
)
@pytest.mark.parametrize(
    ("how", "reasons"),
    [
        ({"error_after": "headers"}, ("overloaded_error", "OVERLOADED")),
        ({"error_after": "message_start"}, ("overloaded_error", "OVERLOADED")),
        ({"end_after": "headers"}, ("upstream_error", "UPSTREAM_ERROR")),
        ({"end_after": "message_start"}, ("upstream_error", "UPSTREAM_ERROR")),
    ],
    ids=["error first", "error after message_start", "empty", "message_start alone"],
)
async def test_a_stream_that_fails_before_its_first_block_is_an_error_and_not_asked_for_again_whole(
    stage: Stage, kind: str, tools: list[object], how: dict[str, str], reasons: tuple[str, str]
) -> None:
    note = uuid.uuid4().hex
    answer: dict[str, Any] = {"tools": tools} if tools else {"text": "hello"}
    failure = await stage.fails(kind, sim(**answer, **how, note=note), tools=("pick",))
    assert (failure.status, failure.reason) == (
        (503, reasons[0]) if kind == "whole" else ("UNAVAILABLE", reasons[1])
    )
    assert failure.retry_after is not None
    assert all(exchange.body["stream"] is True for exchange in stage.engine.upstream(note))


@pytest.mark.parametrize("kind", ["whole", "grpc"])
async def test_a_rate_limit_inside_the_stream_is_one(stage: Stage, kind: str) -> None:
    event = {"status": 429, "message": "secret"}
    failure = await stage.fails(kind, sim(text="x", error_after="headers", error_event=event))
    assert failure.status == (429 if kind == "whole" else "RESOURCE_EXHAUSTED")
    assert failure.retry_after is not None
    assert "secret" not in failure.message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["end_after", "error_after"])
@pytest.mark.parametrize("text", ["", "I will pick one."])
async def test_a_stream_that_ends_after_a_whole_call_is_an_error_at_once(
    stage: Stage, kind: str, end: str, text: str
) -> None:
    words = {"text": text} if text else {}
    failure = await stage.fails(kind, sim(tools=CALL, **words, **{end: "content"}), tools=("pick",))
    assert failure.reason.lower() == "upstream_error"
    assert "ended prematurely" in failure.message
    if kind != "stream":
        assert failure.status in (503, "UNAVAILABLE")
        assert failure.retry_after is not None


async def test_an_answer_that_pauses_ends_as_one_that_is_not_whole(stage: Stage) -> None:
    answer = await stage.engine.ask(user(sim(text="so far", stop_reason="pause_turn")))
    assert (answer.text, answer.reason) == ("so far", "length")
    async with httpx.AsyncClient(base_url=stage.apis.url, timeout=120) as client:
        reply = await client.post(
            "/v1/chat/completions",
            json={
                "messages": [
                    {"role": "user", "content": sim(text="so far", stop_reason="pause_turn")}
                ]
            },
        )
    (choice,) = reply.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("so far", "length")


@pytest.mark.parametrize("kind", ["whole", "grpc"])
@pytest.mark.parametrize("failure", ["burst", "overloaded"])
async def test_the_retry_time_is_the_apis_own(stage: Stage, kind: str, failure: str) -> None:
    note = uuid.uuid4().hex
    error = {"kind": failure, "headers": {"retry-after": "300"}}
    told = await stage.fails(kind, sim(error=error, note=note))
    wanted = (429, "RESOURCE_EXHAUSTED") if failure == "burst" else (503, "UNAVAILABLE")
    assert told.status in wanted
    # The CLI adds up to a quarter, so that not everybody comes back at once.
    assert told.retry_after is not None
    assert 300 <= told.retry_after <= 376
    assert len(stage.engine.upstream(note)) == 1


async def test_an_api_that_is_busy_for_long_is_no_time_limit_of_ours(stage: Stage) -> None:
    error = {"kind": "overloaded", "headers": {"retry-after": "20"}}
    with pytest.raises(UnavailableError) as caught:
        await stage.engine.ask(user(sim(error=error)), first_token_timeout=45)
    assert caught.value.reason == "OVERLOADED"
    assert caught.value.retryable
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 20


async def test_a_time_limit_reached_while_the_cli_waits_to_try_again_names_the_apis_failure(
    stage: Stage,
) -> None:
    error = {"kind": "burst", "headers": {"retry-after": "8"}}
    with pytest.raises(RateLimitedError) as caught:
        await stage.engine.ask(user(sim(error=error)), first_token_timeout=3)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 8


async def test_capacity_failures_are_tried_as_often_as_others(stage: Stage) -> None:
    note = uuid.uuid4().hex
    with pytest.raises(UnavailableError):
        await stage.engine.ask(user(sim(error="overloaded", note=note)))
    assert len(stage.engine.upstream(note)) == 3


async def test_a_burst_does_not_count_as_a_limit_of_the_account(stage: Stage) -> None:
    with pytest.raises(RateLimitedError):
        await stage.engine.ask(user(sim(error="burst")))
    plan = stage.engine.engine.pool_state().plan
    assert plan is None or plan.status != "rejected"


@pytest.mark.parametrize("name", ["other", "pi\nck", "Bash", "mcp__client__pick"])
async def test_a_call_of_a_tool_that_was_not_offered_is_left_to_claude_code_to_correct(
    stage: Stage, name: str
) -> None:
    note = uuid.uuid4().hex
    call = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {"a": 1}}
    first = {"blocks": [call], "stop_reason": "tool_use"}
    answer = await stage.engine.ask(
        user(sim(turns=[first, {"text": "I see."}], note=note)), tools=(PICK,)
    )
    assert (answer.text, answer.calls, answer.reason) == ("I see.", [], "stop")
    _, corrected = stage.engine.upstream(note)
    (result,) = corrected.body["messages"][-1]["content"]
    assert result["is_error"] is True
    assert "No such tool" in str(result["content"])


async def test_a_model_that_keeps_calling_what_was_not_offered_is_stopped(stage: Stage) -> None:
    note = uuid.uuid4().hex
    strays = [
        {
            "blocks": [{"type": "tool_use", "id": f"toolu_{i}", "name": "other", "input": {}}],
            "stop_reason": "tool_use",
        }
        for i in range(20)
    ]
    with pytest.raises(UnavailableError) as caught:
        await stage.engine.ask(user(sim(turns=strays, note=note)), tools=(PICK,))
    assert caught.value.reason == "UNFIT_ANSWER"
    assert len(stage.engine.upstream(note)) < 7
