from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bridge.core import contract
from bridge.core.contract.errors import reset_sentence

# 1 January 2100, 00:00 UTC.
RESET = 4_102_444_800.0


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        (-5, "It resets at 00:00 UTC, in 0 minutes."),
        (1, "It resets at 00:00 UTC, in 1 minute."),
        (43 * 60, "It resets at 00:00 UTC, in 43 minutes."),
        (3 * 3600, "It resets at 00:00 UTC, in 3 hours."),
        (30 * 3600, "It resets on 1 Jan 2100 at 00:00 UTC, in 30 hours."),
        (5 * 86400, "It resets on 1 Jan 2100 at 00:00 UTC, in 5 days."),
    ],
)
def test_a_reset_is_told_by_the_clock_and_by_the_time_left(seconds: float, sentence: str) -> None:
    assert reset_sentence(RESET, RESET - seconds) == sentence


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (100, "It resets on 11 Apr at 00:00 UTC, in 100 days."),
        (200, "It resets on 20 Jul 2100 at 00:00 UTC, in 200 days."),
        (400, "It resets on 5 Feb 2101 at 00:00 UTC, in 400 days."),
    ],
)
def test_a_far_day_has_its_year(days: int, sentence: str) -> None:
    assert reset_sentence(RESET + days * 86400, RESET) == sentence


def test_the_clock_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    assert reset_sentence(RESET, RESET - 60) == "It resets at 01:00 CET, in 1 minute."


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (contract.UnavailableError("x"), 10.0),
        (contract.ProcessFailedError("x"), 1.0),
        (contract.RateLimitedError("x"), 1.0),
        (contract.RateLimitedError("x", retry_after=7), 7.0),
        (contract.RateLimitedError("x", retry_after=-1), 0.0),
        (contract.PlanLimitError("x"), None),
        (contract.PlanLimitError("x", retry_after=60), 60.0),
        (contract.UnavailableError("x", retryable=False), None),
    ],
)
def test_the_hint_to_retry(error: contract.BridgeError, hint: float | None) -> None:
    assert error.retry_hint == hint


def test_an_error_can_be_raised_again_without_what_it_has_passed_through() -> None:
    error = contract.PlanLimitError("Reached.")
    error.tell_reset(RESET, RESET - 60)
    with pytest.raises(contract.PlanLimitError):
        raise error from ValueError("inner")
    again = error.again()
    assert type(again) is contract.PlanLimitError
    assert (again.message, again.resets_at) == (error.message, RESET)
    assert again.retry_hint == 60
    assert (again.__traceback__, again.__cause__, again.__context__) == (None, None, None)
