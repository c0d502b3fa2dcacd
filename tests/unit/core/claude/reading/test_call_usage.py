from __future__ import annotations

from typing import Any

from bridge.core.claude.reading.call_usage import CallUsage, UnseenCalls
from bridge.core.contract import Usage


def test_reports_of_one_call_are_cumulative_and_calls_are_added() -> None:
    usage = CallUsage(Usage(input_tokens=100, output_tokens=1))
    usage.next_call({"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1})
    usage.report({"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3}})
    assert usage.total == Usage(110, 5, 0, 8, 3)
    usage.next_call({"input_tokens": 20, "cache_creation_input_tokens": 2, "output_tokens": 2})
    usage.report({"output_tokens": None})
    assert usage.total == Usage(130, 5, 2, 10, 3)


def test_what_is_cached_for_an_hour_is_counted_besides() -> None:
    usage = CallUsage(Usage(cache_write_1h_tokens=1))
    kept = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 7}
    usage.next_call({"cache_creation_input_tokens": 9, "cache_creation": kept})
    usage.report({"output_tokens": 3})
    assert usage.total == Usage(cache_write_tokens=9, output_tokens=3, cache_write_1h_tokens=8)


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": "stream_event", "event": {"type": kind, **more}}


def test_calls_that_have_no_reader_are_counted_with_their_tokens() -> None:
    calls = UnseenCalls()
    calls.feed(event("message_delta", usage={"output_tokens": 9}))
    assert (calls.count, calls.usage) == (0, Usage())
    for _ in range(2):
        calls.feed({"type": "system", "status": "requesting"})
        calls.feed(event("message_start", message={"usage": {"input_tokens": 10}}))
        calls.feed(event("message_delta", usage={"output_tokens": 3}))
    calls.feed({"type": "system", "status": None})
    assert (calls.count, calls.usage) == (2, Usage(input_tokens=20, output_tokens=6))


def test_a_subagents_tokens_are_not_of_the_turn() -> None:
    calls = UnseenCalls()
    message = {"usage": {"input_tokens": 10}}
    calls.feed({**event("message_start", message=message), "parent_tool_use_id": "toolu_1"})
    assert calls.usage == Usage()
