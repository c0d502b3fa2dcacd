"""An answer in one message. Pure."""

from __future__ import annotations

import pytest

from bridge.core.contract.errors import UnavailableError
from bridge.core.contract.events import Event, Finished, FinishReason, Started, TextDelta
from bridge.core.contract.usage import Usage
from bridge.grpc_server.wire.collect import AnswerCollector
from bridge.grpc_server.wire.encode import FINISH_REASONS, encode_usage
from bridge.v1 import completion_pb2 as pb
from tests.support.fakes import CALLS, HELLO, STARTED, USAGE


def collected(*events: Event) -> pb.CreateCompletionResponse:
    collector = AnswerCollector("req_1")
    for event in events:
        collector.see(event)
    return collector.response()


def test_text() -> None:
    assert collected(Started("m", ("a", "b")), *HELLO[1:]) == pb.CreateCompletionResponse(
        request_id="req_1",
        model="m",
        ignored_params=["a", "b"],
        text="Hello",
        finish_reason=pb.FINISH_REASON_STOP,
        usage=encode_usage(USAGE),
    )


def test_calls_and_thinking() -> None:
    response = collected(*CALLS)
    assert response.thinking == "hm"
    assert list(response.tool_calls) == [
        pb.ToolCall(id="toolu_1", name="weather", arguments_json='{"city": "Oslo"}'),
        pb.ToolCall(id="toolu_2", name="time", arguments_json="{}"),
    ]
    assert response.finish_reason == pb.FINISH_REASON_TOOL_CALLS


@pytest.mark.parametrize("reason", FinishReason)
def test_every_end(reason: FinishReason) -> None:
    response = collected(STARTED, Finished(reason, Usage(), "END"))
    assert response.finish_reason == FINISH_REASONS[reason]
    assert response.stop_sequence == "END"


def test_a_surrogate_pair_in_two_fragments_is_one_character_and_half_of_one_is_replaced() -> None:
    end = Finished(FinishReason.STOP, Usage(), "\ud83d")
    halves = (TextDelta("\ud83d"), TextDelta("\ude00"), TextDelta("\ud83d"))
    response = collected(STARTED, *halves, end)
    assert response.text == "\U0001f600\ufffd"
    assert response.stop_sequence == "\ufffd"


@pytest.mark.parametrize("events", [(), HELLO[:-1]])
def test_an_answer_that_ended_prematurely_is_an_error(events: tuple[Event, ...]) -> None:
    with pytest.raises(UnavailableError):
        collected(*events)
