"""Which payers are left out, for how long, and which payer a conversation stays with."""

from __future__ import annotations

import pytest

from bridge.core.contract.errors import (
    AccountRefusedError,
    BridgeError,
    InvalidRequestError,
    NotLoggedInError,
    PlanLimitError,
    QueueFullError,
    RateLimitedError,
    UnavailableError,
)
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.states import LimitedModel
from bridge.core.payers.marks import (
    LONGEST_SECONDS,
    Conversations,
    Marks,
    mark_of,
    overflows,
)
from tests.support.harness import assistant, user


@pytest.mark.parametrize(
    ("error", "model", "until"),
    [
        (PlanLimitError("x", retry_after=50), "opus", 150),
        (PlanLimitError("x"), "opus", 1000),
        (PlanLimitError("x", reason="INSUFFICIENT_QUOTA"), "", 1000),
        (RateLimitedError("x", retry_after=20), "opus", 120),
        (NotLoggedInError("x"), "", 130),
        (AccountRefusedError("x"), "", 130),
    ],
)
def test_a_failure_that_lasts_marks_the_payer(error: BridgeError, model: str, until: float) -> None:
    assert overflows(error)
    assert mark_of(error, "opus", 100) == LimitedModel(model, error.reason, until)


def test_a_limit_that_only_this_request_reaches_marks_nothing() -> None:
    error = PlanLimitError("x", reason="USAGE_CREDITS_REQUIRED")
    assert overflows(error)
    assert mark_of(error, "opus", 100) is None


def test_no_payer_is_left_out_for_longer_than_any_limit_lasts() -> None:
    for error in (PlanLimitError("a", retry_after=1e10), RateLimitedError("a", retry_after=1e10)):
        mark = mark_of(error, "opus", 100)
        assert mark is not None
        assert mark.until == 100 + LONGEST_SECONDS


@pytest.mark.parametrize("error", [InvalidRequestError, QueueFullError, UnavailableError])
def test_other_failures_are_the_answer(error: type[BridgeError]) -> None:
    assert not overflows(error("x"))


def test_a_marked_payer_is_left_out_for_its_model_until_the_limit_resets() -> None:
    marks = Marks()
    marks.note("a", LimitedModel("opus", "PLAN_LIMIT", 50))
    assert marks.usable(("a", "b"), "opus", 49) == ("b",)
    assert marks.usable(("a", "b"), "haiku", 49) == ("a", "b")
    assert marks.usable(("a", "b"), "opus", 50) == ("a", "b")
    assert marks.of("a", 51) == ()


def test_a_shorter_mark_does_not_end_a_longer_one() -> None:
    marks = Marks()
    for until in (50, 20):
        marks.note("a", LimitedModel("opus", "PLAN_LIMIT", until))
    assert marks.usable(("a", "b"), "opus", 30) == ("b",)


def test_if_all_are_marked_the_one_that_is_free_first_is_asked() -> None:
    marks = Marks()
    marks.note("a", LimitedModel("opus", "PLAN_LIMIT", 90))
    marks.note("b", LimitedModel("", "CLAUDE_NOT_LOGGED_IN", 60))
    assert marks.usable(("a", "b"), "opus", 10) == ("b",)
    marks.works("b", "opus")
    assert marks.usable(("a", "b"), "opus", 10) == ("b",)
    assert marks.of("b", 10) == ()


def asking(*texts: str, owner: str = "me") -> CompletionRequest:
    turns = [(assistant if n % 2 else user)(text) for n, text in enumerate(texts)]
    return CompletionRequest(tuple(turns), owner=owner)


def test_a_conversation_stays_with_the_payer_that_has_answered_it() -> None:
    held = Conversations()
    held.answered(asking("Hello"), "b", until=50)
    following = asking("Hello", "Hi!", "And now?")
    assert held.first(following, ("a", "b"), 49) == ["b", "a"]
    assert held.first(following, ("a", "b"), 50) == ["a", "b"], "its cache has expired"
    assert held.first(following, ("a", "c"), 49) == ["a", "c"], "it may no longer"
    assert held.first(asking("Hello"), ("a", "b"), 49) == ["a", "b"], "it is a new one"
    assert held.first(asking("Hello?", "Hi!", "And?"), ("a", "b"), 49) == ["a", "b"]
    assert held.first(asking("Hello", "Hi!", "And?", owner="x"), ("a", "b"), 49) == ["a", "b"]


def test_only_so_many_conversations_are_remembered() -> None:
    held = Conversations(most=1)
    for text in ("one", "two"):
        held.answered(asking(text), "b", until=50)
    assert held.first(asking("one", "x", "y"), ("a", "b"), 0) == ["a", "b"]
    assert held.first(asking("two", "x", "y"), ("a", "b"), 0) == ["b", "a"]
