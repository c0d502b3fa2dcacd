"""What the soak would find: here it gets wrong answers."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.support.replies import GONE, LOST, Failure, Reply
from tests.system.soak.asking import Ask
from tests.system.soak.run import Soak, judge
from tests.system.soak.serving import Standing
from tests.system.soak.traffic import Caller, Tally, Wrong

FOREIGN = "soak-0123456789ab"


class FakeApi:
    """Gives one answer to everything."""

    name = "fake"

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def ask(self, ask: Ask) -> Reply:
        return self._reply


def caller(reply: Reply, tally: Tally | None = None) -> Caller:
    api: Any = FakeApi(reply)
    return Caller(api, api, tally or Tally(), Random(1))


@pytest.mark.parametrize(
    "reply",
    [
        Reply("What?"),
        Reply("What", failure=Failure(200, "timeout")),
        Reply("", failure=Failure(LOST)),
        Reply("", failure=Failure(GONE)),
        Reply("", failure=Failure(500, "internal_error")),
        Reply("", failure=Failure("INTERNAL")),
        Reply("", failure=Failure(429, "queue_full")),
        Reply(f"The answer is 1, says {FOREIGN}."),
        Reply(f"The answer is 1, says {FOREIGN}.", failure=Failure(200, "timeout")),
    ],
    ids=lambda reply: f"{reply.text} {reply.failure and reply.failure.summary}",
)
async def test_what_is_wrong(reply: Reply) -> None:
    with pytest.raises(Wrong):
        await caller(reply).plain()


async def test_a_foreign_name_is_wrong_whatever_was_asked() -> None:
    with pytest.raises(Wrong, match="somebody else"):
        await caller(Reply(FOREIGN, failure=Failure(GONE))).leaving()


async def test_what_may_be() -> None:
    tally = Tally()
    for failure in (
        Failure(503, "claude_process_error"),
        Failure(200, "upstream_error"),
        Failure("DEADLINE_EXCEEDED"),
        Failure(429, "queue_full", retry_after=1.0),
    ):
        await caller(Reply(failure=failure), tally).plain()
    await caller(Reply("The answer", failure=Failure(504, "timeout")), tally).plain()
    assert tally.errors.total() == 5
    assert not tally.wrong


async def test_an_answer_to_an_unsupported_request_is_wrong_and_reported_by_name() -> None:
    tally = Tally()
    reply = Reply("Hello")
    await caller(reply, tally).run(time.monotonic() + 0.05)
    assert any("wrong_request soak-" in wrong for wrong in tally.wrong)


GOOD = Standing(tasks=30, fds=40, rss_mb=100.0, peak_mb=100.0, processes=5)


def soaked(at_the_end: Standing, **changes: Any) -> Soak:
    result = Soak(30, 1, after_a_third=GOOD, at_the_end=at_the_end, killed=1, stopped=1)
    result.tally.right["plain http"] = 2
    result.tally.errors.update({"plain http: then timeout": 1, "plain http: 429 queue_full": 9})
    for name, value in changes.items():
        setattr(result, name, value)
    judge(result)
    return result


@pytest.mark.parametrize(
    "at_the_end",
    [
        Standing(200, 40, 100.0, 100.0, 5),
        Standing(30, 200, 100.0, 100.0, 5),
        Standing(30, 40, 300.0, 300.0, 5),
        Standing(30, 40, 100.0, 100.0, 50),
    ],
    ids=["tasks", "file descriptors", "memory", "processes"],
)
def test_a_leak_is_a_problem(at_the_end: Standing) -> None:
    result = soaked(at_the_end)
    assert len(result.problems) == 1
    assert f"PROBLEM: {result.problems[0]}" in result.report()


@pytest.mark.parametrize(
    "changes",
    [
        {"tally": Tally(Counter(right=1), wrong=["x"])},
        {"tally": Tally()},
        {"tally": Tally(Counter(right=1), Counter({"plain http: then timeout": 2}))},
        {"most_processes": 50},
        {"killed": 0},
        {"stopped": 0},
    ],
    ids=str,
)
def test_so_is_each_of_these(changes: dict[str, Any]) -> None:
    assert len(soaked(GOOD, **changes).problems) == 1


def test_a_good_one_has_none() -> None:
    assert soaked(GOOD).problems == []
