"""Which limit of a request is reached next, and its error."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest

from bridge.core.contract.errors import InvalidRequestError
from bridge.core.engine.timeouts import (
    AnswerProgress,
    Deadlines,
    Limit,
    RequestProgress,
    TimeLimits,
    next_limit,
)
from bridge.core.validation import seconds_from
from tests.support.waiting import soon

LIMITS = TimeLimits(total=100, queue=10, first_token=20, idle=5)


def test_a_request_waits_for_a_process_as_long_as_the_queue_allows() -> None:
    assert next_limit(LIMITS, RequestProgress(0, 3), now=5) == (13, Limit.QUEUE)


def test_nor_longer_than_the_first_token_may_take() -> None:
    limits = TimeLimits(total=100, first_token=20)
    assert next_limit(limits, RequestProgress(0, 3), now=5) == (23, Limit.QUEUE)
    assert limits.seconds(Limit.QUEUE) == 20


def test_the_wait_for_a_process_is_part_of_the_wait_for_the_first_token() -> None:
    limits = TimeLimits(total=100, queue=1, first_token=20)
    progress = RequestProgress(0, 30, leased=True)
    assert next_limit(limits, progress, now=40) == (50, Limit.FIRST_TOKEN)


def test_silence_counts_once_the_answer_has_begun() -> None:
    progress = RequestProgress(0, 30, True, AnswerProgress(begun=True, last_line_at=42))
    assert next_limit(LIMITS, progress, now=44) == (47, Limit.IDLE)


@pytest.mark.parametrize(
    ("begun", "limit"), [(False, (80, Limit.FIRST_TOKEN)), (True, (65, Limit.IDLE))]
)
def test_an_excused_silence_begins_only_now(begun: bool, limit: tuple[float, Limit]) -> None:
    progress = RequestProgress(0, 30, True, AnswerProgress(begun, last_line_at=31, excused=True))
    assert next_limit(LIMITS, progress, now=60) == limit


def test_before_the_answer_no_silence_counts() -> None:
    # Preparing a process may take longer than a pause between two tokens.
    assert next_limit(LIMITS, RequestProgress(0, 30, True), now=30) == (50, Limit.FIRST_TOKEN)
    assert next_limit(TimeLimits(idle=5), RequestProgress(0, 0, True), now=60)[0] == math.inf


@pytest.mark.parametrize(
    "progress",
    [
        RequestProgress(0, 98),
        RequestProgress(0, 98, True),
        RequestProgress(0, 1, True, AnswerProgress(begun=True, last_line_at=98)),
    ],
    ids=["queued", "leased", "begun"],
)
def test_the_limit_of_the_whole_holds_always(progress: RequestProgress) -> None:
    assert next_limit(LIMITS, progress, now=99) == (100, Limit.TOTAL)


def test_of_two_sets_of_limits_the_shorter_ones_hold() -> None:
    asked = TimeLimits(total=500, first_token=1)
    assert LIMITS.within(asked) == TimeLimits(total=100, queue=10, first_token=1, idle=5)
    assert TimeLimits().within(asked) == asked


def test_without_limits_nothing_comes() -> None:
    assert (
        next_limit(
            TimeLimits(),
            RequestProgress(0, 1, True, AnswerProgress(begun=True, last_line_at=2)),
            now=3,
        )[0]
        == math.inf
    )


@pytest.mark.parametrize("text", ["", "0", "-1", "soon", "inf", "nan"])
def test_what_is_no_time_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        seconds_from("The header x", text, field="x")
    assert caught.value.field == "x"


async def test_of_the_errors_only_that_of_the_queue_asks_to_try_again() -> None:
    deadlines = Deadlines(LIMITS)
    errors = {limit: deadlines.error(limit) for limit in Limit}
    assert {limit for limit, error in errors.items() if error.retryable} == {Limit.QUEUE}
    assert {error.reason for error in errors.values()} == {
        "DEADLINE_EXCEEDED",
        "QUEUE_TIMEOUT",
        "FIRST_TOKEN_TIMEOUT",
        "IDLE_TIMEOUT",
    }
    assert "20 seconds" in errors[Limit.FIRST_TOKEN].message


class Answer:
    """An answer that a test can advance, and whether its limit was reached."""

    def __init__(self) -> None:
        self.progress = AnswerProgress(last_line_at=asyncio.get_running_loop().time())
        self.reached = asyncio.Event()

    def deadlines(self, limits: TimeLimits) -> Deadlines:
        return Deadlines(limits, lambda: self.progress, self.reached.set)


async def test_one_timer_finds_each_limit_when_it_is_reached() -> None:
    loop = asyncio.get_running_loop()
    answer = Answer()
    deadlines = answer.deadlines(TimeLimits(first_token=0.02, idle=0.05))
    deadlines.leased()
    deadlines.watch()
    answer.progress = replace(answer.progress, begun=True)
    await soon(answer.reached.wait())
    assert deadlines.reached is Limit.IDLE
    assert loop.time() >= answer.progress.last_line_at + 0.05


async def test_what_comes_puts_the_end_off_without_a_new_timer() -> None:
    loop = asyncio.get_running_loop()
    reached = asyncio.Event()
    asked: list[float] = []

    def progress() -> AnswerProgress:
        # A line arrives before every check, five times.
        if len(asked) < 5:
            asked.append(loop.time())
        return AnswerProgress(begun=True, last_line_at=asked[-1])

    deadlines = Deadlines(TimeLimits(idle=0.01), progress, reached.set)
    deadlines.leased()
    deadlines.watch()
    await soon(reached.wait())
    assert len(asked) == 5
    assert loop.time() >= asked[-1] + 0.01


async def test_a_silence_that_begins_unseen_is_found_in_time() -> None:
    # A line starts no timer: the answer has started since the last check.
    answer = Answer()
    deadlines = answer.deadlines(TimeLimits(idle=0.02))
    deadlines.leased()
    deadlines.watch()
    answer.progress = replace(answer.progress, begun=True)
    await soon(answer.reached.wait())
    assert deadlines.reached is Limit.IDLE


async def test_a_request_that_waits_for_another_process_is_not_bound_by_the_first() -> None:
    answer = Answer()
    deadlines = answer.deadlines(TimeLimits(total=0.02, queue=60))
    deadlines.leased()
    deadlines.watch()
    deadlines.queued()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answer.reached.wait(), 0.05)


async def test_nothing_is_reached_after_the_end_of_watching() -> None:
    answer = Answer()
    answer.progress = AnswerProgress(begun=True)
    deadlines = answer.deadlines(TimeLimits(idle=0.01))
    answer.progress = replace(answer.progress, last_line_at=asyncio.get_running_loop().time())
    deadlines.leased()
    deadlines.watch()
    deadlines.unwatch()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answer.reached.wait(), 0.05)
