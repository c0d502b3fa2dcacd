"""Which limit of a request comes next, and what is said of it."""

from __future__ import annotations

import asyncio
import math

import pytest

from bridge.core.contract.errors import InvalidRequestError
from bridge.core.engine.timeouts import Deadlines, Limit, Standing, TimeLimits, next_limit
from bridge.core.validation.time_limits import seconds_from
from tests.core.waiting import soon

LIMITS = TimeLimits(total=100, queue=10, first_token=20, idle=5)


def test_who_waits_for_a_process_waits_as_long_as_the_queue_allows() -> None:
    assert next_limit(LIMITS, Standing(0), now=3) == (13, Limit.QUEUE)


def test_from_the_process_on_the_first_token_is_waited_for() -> None:
    limits = TimeLimits(total=100, queue=1, first_token=20)
    assert next_limit(limits, Standing(0, put_at=30), now=40) == (50, Limit.FIRST_TOKEN)


def test_silence_counts_once_the_answer_has_begun() -> None:
    standing = Standing(0, put_at=30, heard_at=42, begun=True)
    assert next_limit(LIMITS, standing, now=44) == (47, Limit.IDLE)


@pytest.mark.parametrize(
    ("begun", "limit"), [(False, (80, Limit.FIRST_TOKEN)), (True, (65, Limit.IDLE))]
)
def test_an_excused_silence_begins_only_now(begun: bool, limit: tuple[float, Limit]) -> None:
    standing = Standing(0, put_at=30, heard_at=31, begun=begun, excused=True)
    assert next_limit(LIMITS, standing, now=60) == limit


def test_before_the_answer_no_silence_counts() -> None:
    # Telling a process what it needs may take longer than a pause between two words.
    assert next_limit(LIMITS, Standing(0, put_at=30), now=30) == (50, Limit.FIRST_TOKEN)
    assert next_limit(TimeLimits(idle=5), Standing(0, put_at=0), now=60)[0] == math.inf


@pytest.mark.parametrize(
    "standing",
    [Standing(0), Standing(0, put_at=98), Standing(0, put_at=1, heard_at=98, begun=True)],
    ids=["queued", "put", "begun"],
)
def test_the_limit_of_the_whole_holds_always(standing: Standing) -> None:
    assert next_limit(LIMITS, standing, now=99) == (100, Limit.TOTAL)


def test_of_two_sets_of_limits_the_shorter_ones_hold() -> None:
    asked = TimeLimits(total=500, first_token=1)
    assert LIMITS.within(asked) == TimeLimits(total=100, queue=10, first_token=1, idle=5)
    assert TimeLimits().within(asked) == asked


def test_without_limits_nothing_comes() -> None:
    assert next_limit(TimeLimits(), Standing(0, 1, 2, begun=True), now=3)[0] == math.inf


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


async def test_one_timer_finds_each_limit_when_it_is_reached() -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    begun = False
    heard_at = loop.time()
    deadlines = Deadlines(TimeLimits(first_token=0.02, idle=0.05), begun=lambda: begun)
    deadlines.put()
    deadlines.watch(lambda: heard_at, lambda: False, over.set)
    begun = True
    await soon(over.wait())
    assert deadlines.over is Limit.IDLE
    assert loop.time() >= heard_at + 0.05


async def test_what_is_heard_puts_the_end_off_without_a_new_timer() -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    asked: list[float] = []

    def heard_at() -> float:
        # Something is heard whenever it is looked, five times.
        if len(asked) < 5:
            asked.append(loop.time())
        return asked[-1]

    deadlines = Deadlines(TimeLimits(idle=0.01), begun=lambda: True)
    deadlines.put()
    deadlines.watch(heard_at, lambda: False, over.set)
    await soon(over.wait())
    assert len(asked) == 5
    assert loop.time() >= asked[-1] + 0.01


async def test_a_silence_that_begins_unseen_is_found_in_time() -> None:
    # No timer is started by what is said: it has begun since the last look.
    over = asyncio.Event()
    begun = False
    heard_at = asyncio.get_running_loop().time()
    deadlines = Deadlines(TimeLimits(idle=0.02), begun=lambda: begun)
    deadlines.put()
    deadlines.watch(lambda: heard_at, lambda: False, over.set)
    begun = True
    await soon(over.wait())
    assert deadlines.over is Limit.IDLE


async def test_who_waits_for_another_process_hears_nothing_of_the_first() -> None:
    over = asyncio.Event()
    deadlines = Deadlines(TimeLimits(total=0.02, queue=60))
    deadlines.put()
    deadlines.watch(lambda: 0.0, lambda: True, over.set)
    deadlines.queue()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(over.wait(), 0.05)
    # Nor do the first one's words excuse it.
    assert not deadlines._pending()


async def test_who_does_not_watch_any_more_is_not_called() -> None:
    over = asyncio.Event()
    deadlines = Deadlines(TimeLimits(idle=0.01), begun=lambda: True)
    deadlines.put()
    deadlines.watch(lambda: 0.0, lambda: True, over.set)
    deadlines.unwatch()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(over.wait(), 0.05)
