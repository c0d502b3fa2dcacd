"""The CLI's own retries of failed calls, and which of them an answer waits for."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.claude.failures.retries import LONGEST_WAIT
from bridge.core.claude.reading.answer_reader import AnswerReader
from bridge.core.contract.errors import (
    BridgeError,
    PlanLimitError,
    RateLimitedError,
    UnavailableError,
)


def retry(status: int | None, delay_ms: int, attempt: int = 1) -> dict[str, Any]:
    return {
        "type": "system",
        "subtype": "api_retry",
        "attempt": attempt,
        "max_retries": 2,
        "retry_delay_ms": delay_ms,
        "error_status": status,
        "error": "server_error",
    }


@pytest.mark.parametrize("status", [None, 429, 500, 529])
@pytest.mark.parametrize("attempt", [1, 2])
def test_a_short_wait_is_waited_for(status: int | None, attempt: int) -> None:
    reader = AnswerReader(include_thinking=False)
    assert not list(reader.feed(retry(status, 2_000, attempt)))
    assert reader.waiting is not None
    assert reader.waiting.retryable
    assert reader.waiting.retry_after == 10
    ping = {"type": "stream_event", "event": {"type": "ping"}}
    assert not list(reader.feed(ping))
    assert reader.waiting is None


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(429, RateLimitedError), (529, UnavailableError), (503, UnavailableError)],
)
def test_a_long_wait_is_reported_at_once(status: int, wanted: type[BridgeError]) -> None:
    reader = AnswerReader(include_thinking=False)
    with pytest.raises(wanted) as caught:
        list(reader.feed(retry(status, 300_000)))
    assert caught.value.retryable
    assert caught.value.retry_after == 300 > LONGEST_WAIT


@pytest.mark.parametrize("status", [429, 529])
def test_no_more_tries_than_were_meant_are_waited_for(status: int) -> None:
    with pytest.raises(BridgeError) as caught:
        list(AnswerReader(include_thinking=False).feed(retry(status, 2_000, attempt=3)))
    # Two seconds are the CLI's own backoff, too soon for clients that repeat the whole request.
    assert (caught.value.retryable, caught.value.retry_after) == (True, 10)


def test_a_wait_for_the_end_of_a_limit_is_a_limit() -> None:
    reader = AnswerReader(include_thinking=False)
    info = {"status": "rejected", "resetsAt": 4102444800, "rateLimitType": "five_hour"}
    list(reader.feed({"type": "rate_limit_event", "rate_limit_info": info}))
    with pytest.raises(PlanLimitError) as caught:
        list(reader.feed(retry(429, 21_600_000)))
    assert not caught.value.retryable
    assert reader.limit_resets_at == 4102444800


def test_a_429_without_a_word_of_limits_leaves_what_was_known_of_them() -> None:
    reader = AnswerReader(include_thinking=False)
    info = {"status": "rejected", "isUsingOverage": False}
    list(reader.feed({"type": "rate_limit_event", "rate_limit_info": info}))
    assert reader.usage_limits is None
    with pytest.raises(RateLimitedError) as caught:
        list(reader.feed({"type": "result", "is_error": True, "api_error_status": 429}))
    assert caught.value.retry_after == 10
