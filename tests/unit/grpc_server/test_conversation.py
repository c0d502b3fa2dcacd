"""What may come next in a conversation, and what it contains. Pure."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bridge.core.contract.errors import InvalidRequestError, TooLargeError
from bridge.core.contract.events import (
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.request import (
    CompletionRequest,
    Message,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.contract.usage import Usage
from bridge.core.validation import validate
from bridge.grpc_server.conversation import Conversation
from bridge.grpc_server.wire.decode import decode_conversation
from bridge.v1 import completion_pb2 as pb

CALLS: tuple[Event, ...] = (
    Started("m"),
    TextDelta("Let me"),
    TextDelta(" see."),
    ToolCallStart(0, "a", "add"),
    ToolCallDelta(0, '{"x"'),
    ToolCallDelta(0, ": 1}"),
    ToolCallStart(1, "b", "now"),
)


def conversation(*messages: Message, max_bytes: int = 10_000) -> Conversation:
    opened = decode_conversation(
        pb.ConverseRequest(open=pb.OpenConversation(completion=pb.CompletionSpec(model="opus")))
    )
    return Conversation(replace(opened, messages=messages), max_bytes)


def said(*texts: str) -> pb.UserMessage:
    return pb.UserMessage(parts=[pb.Part(text=text) for text in texts])


def results(*ids: str) -> pb.ToolResults:
    return pb.ToolResults(
        results=[pb.ToolResult(call_id=i, content=[pb.Part(text=f"of {i}")]) for i in ids]
    )


def finished(reason: FinishReason) -> Finished:
    return Finished(reason, Usage())


def run(talk: Conversation, *events: Event, reason: FinishReason = FinishReason.STOP) -> None:
    for event in events:
        talk.see(event)
    talk.see(finished(reason))


def waiting() -> Conversation:
    """A conversation in which the calls a and b wait."""
    talk = conversation()
    talk.take(said("Go."))
    run(talk, *CALLS, reason=FinishReason.TOOL_CALLS)
    return talk


def messages(request: CompletionRequest | None) -> list[tuple[Role, tuple[object, ...]]]:
    assert request is not None
    return [(message.role, message.parts) for message in request.messages]


def refusal(talk: Conversation, what: pb.UserMessage | pb.ToolResults) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        talk.take(what)
    return caught.value


def test_each_turn_is_a_request_with_the_whole_conversation() -> None:
    talk = conversation()
    first = talk.take(said("one", "1"))
    assert messages(first) == [(Role.USER, (TextPart("one"), TextPart("1")))]
    assert first is not None
    assert first.model == "opus"
    run(talk, Started("m"), TextDelta("t"), TextDelta("wo"))
    assert messages(talk.take(said("three"))) == [
        *messages(first),
        (Role.ASSISTANT, (TextPart("two"),)),
        (Role.USER, (TextPart("three"),)),
    ]


def test_a_system_message_stands_before_what_the_user_says() -> None:
    opening = pb.OpenConversation(
        completion=pb.CompletionSpec(
            system="Be kind.",
            messages=[pb.Message(role=pb.ROLE_SYSTEM, parts=[pb.Part(text="Be brief.")])],
        )
    )
    talk = Conversation(decode_conversation(pb.ConverseRequest(open=opening)), 10_000)
    first = talk.take(pb.UserMessage(system="Plan.", parts=[pb.Part(text="one")]))
    assert first is not None
    # It is before all others, like those of `open`.
    assert first.system == "Be kind.\nBe brief.\nPlan."
    assert messages(first) == [(Role.USER, (TextPart("one"),))]
    run(talk, Started("m"), TextDelta("two"))
    second = talk.take(pb.UserMessage(system="Go.", parts=[pb.Part(text="three")]))
    assert second is not None
    assert second.system == first.system
    assert messages(second) == [
        *messages(first),
        (Role.ASSISTANT, (TextPart("two"),)),
        (Role.USER, (TextPart("Go.", system=True), TextPart("three"))),
    ]
    run(talk, Started("m"), TextDelta("four"))
    third = talk.take(said("five"))
    assert third is not None
    assert third.system == first.system
    assert messages(third)[:3] == messages(second)


def test_a_system_message_does_not_replace_what_the_user_says() -> None:
    error = refusal(conversation(), pb.UserMessage(system="Plan."))
    assert error.field == "message"


def test_a_conversation_is_not_opened_with_a_system_message_at_its_end() -> None:
    history = [
        pb.Message(role=role, parts=[pb.Part(text="a")])
        for role in (pb.ROLE_USER, pb.ROLE_ASSISTANT, pb.ROLE_SYSTEM)
    ]
    opening = pb.ConverseRequest(
        open=pb.OpenConversation(completion=pb.CompletionSpec(messages=history))
    )
    with pytest.raises(InvalidRequestError, match="must be from the model") as caught:
        decode_conversation(opening)
    assert caught.value.field == "open.completion.messages[2]"


def test_results_are_awaited_and_sent_in_the_order_of_the_calls() -> None:
    talk = waiting()
    assert talk.take(results("b")) is None
    request = talk.take(results("a"))
    assert messages(request)[1:] == [
        (
            Role.ASSISTANT,
            (
                TextPart("Let me see."),
                ToolCallPart("a", "add", '{"x": 1}'),
                # No fragment at all is an object without fields.
                ToolCallPart("b", "now", ""),
            ),
        ),
        (
            Role.USER,
            (
                ToolResultPart("a", (TextPart("of a"),)),
                ToolResultPart("b", (TextPart("of b"),)),
            ),
        ),
    ]


def test_results_may_come_together() -> None:
    assert waiting().take(results("b", "a")) is not None


@pytest.mark.parametrize(
    ("what", "field"),
    [
        (results("c"), "tool_results.results[0].call_id"),
        (results("a", "a"), "tool_results.results[1].call_id"),
        (pb.ToolResults(), "tool_results.results"),
        (
            pb.ToolResults(
                results=[
                    pb.ToolResult(call_id="a", content=[pb.Part(image=pb.Image(url="ftp://x"))])
                ]
            ),
            "tool_results.results[0].content[0].image",
        ),
        (said("Wait."), "message"),
    ],
)
def test_what_is_refused_where_results_are_due(
    what: pb.UserMessage | pb.ToolResults, field: str
) -> None:
    assert refusal(waiting(), what).field == field


def test_a_result_that_came_in_an_earlier_message_is_not_taken_twice() -> None:
    talk = waiting()
    talk.take(results("a"))
    assert refusal(talk, results("a")).field == "tool_results.results[0].call_id"


def test_a_message_names_the_results_that_are_due() -> None:
    talk = waiting()
    talk.take(results("a"))
    error = refusal(talk, said("Well?"))
    assert error.reason == "TOOL_RESULTS_DUE"
    assert error.message.endswith("first: b.")


@pytest.mark.parametrize(
    ("what", "field"),
    [
        (results("a"), "tool_results.results[0].call_id"),
        (pb.UserMessage(), "message"),
        (pb.UserMessage(parts=[pb.Part()]), "message.parts[0]"),
        (
            pb.UserMessage(parts=[pb.Part(tool_result=pb.ToolResult(call_id="a"))]),
            "message.parts[0].tool_result",
        ),
        (
            pb.UserMessage(parts=[pb.Part(tool_call=pb.ToolCall(id="a", name="b"))]),
            "message.parts[0].tool_call",
        ),
        (
            pb.UserMessage(parts=[pb.Part(image=pb.Image(url="http://x"))]),
            "message.parts[0].image",
        ),
    ],
)
def test_what_is_refused_where_a_message_is_due(
    what: pb.UserMessage | pb.ToolResults, field: str
) -> None:
    assert refusal(conversation(), what).field == field


@pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.REFUSAL, None])
def test_calls_of_a_turn_that_did_not_end_with_them_are_not_kept(
    reason: FinishReason | None,
) -> None:
    talk = conversation()
    talk.take(said("Go."))
    for event in CALLS:
        talk.see(event)
    if reason is None:
        talk.cancel()
    else:
        talk.see(finished(reason))
    assert messages(talk.take(said("On."))) == [
        (Role.USER, (TextPart("Go."),)),
        (Role.ASSISTANT, (TextPart("Let me see."),)),
        (Role.USER, (TextPart("On."),)),
    ]


def test_calls_of_an_answer_that_was_cut_may_be_given_results() -> None:
    talk = conversation()
    talk.take(said("Go."))
    for event in (*CALLS[:-2], finished(FinishReason.LENGTH)):
        talk.see(event)
    request = talk.take(results("a"))
    assert messages(request)[1] == (
        Role.ASSISTANT,
        (TextPart("Let me see."), ToolCallPart("a", "add", '{"x"')),
    )
    assert request is not None
    sound = validate(request)
    assert sound.messages[1].parts[1] == ToolCallPart(
        "a", "add", json.dumps({"_malformed_arguments": '{"x"'})
    )
    assert sound.repaired == ("tool_call_delta.arguments_json",)


def test_some_results_of_an_answer_that_was_cut_do_not_keep_its_calls() -> None:
    talk = conversation()
    talk.take(said("Go."))
    for event in (*CALLS, finished(FinishReason.LENGTH)):
        talk.see(event)
    assert talk.take(results("a")) is None
    assert len(messages(talk.take(said("On.")))) == 3


def test_a_turn_cancelled_before_its_answer_leaves_only_the_question() -> None:
    talk = conversation()
    talk.take(said("Go."))
    talk.cancel()
    assert messages(talk.take(said("On."))) == [
        (Role.USER, (TextPart("Go."),)),
        (Role.USER, (TextPart("On."),)),
    ]


def test_a_conversation_may_begin_with_calls_that_wait() -> None:
    talk = conversation(
        Message(Role.USER, (TextPart("Go."),)),
        Message(Role.ASSISTANT, (ToolCallPart("a", "add", "{}"),)),
    )
    assert refusal(talk, said("Well?")).reason == "TOOL_RESULTS_DUE"
    assert len(messages(talk.take(results("a")))) == 3


def test_a_conversation_has_a_size() -> None:
    talk = conversation(max_bytes=100)
    talk.take(said("x" * 30))
    run(talk, Started("m"), TextDelta("y" * 40))
    with pytest.raises(TooLargeError) as caught:
        talk.take(said("z" * 30))
    assert caught.value.field == "message"


def test_a_turn_that_fails_leaves_the_conversation_as_it_was() -> None:
    talk = conversation()
    talk.take(said("one"))
    run(talk, Started("m"), TextDelta("two"))
    before = messages(talk.take(said("three")))
    talk.see(TextDelta("half"))
    talk.fail()
    assert messages(talk.take(said("three"))) == before


def test_results_are_due_again_after_a_turn_that_fails() -> None:
    talk = waiting()
    request = talk.take(results("a", "b"))
    talk.fail()
    assert refusal(talk, said("Well?")).reason == "TOOL_RESULTS_DUE"
    talk.fail()
    assert talk.take(results("b")) is None
    assert messages(talk.take(results("a"))) == messages(request)


def test_calls_of_an_answer_that_was_cut_are_still_there_after_a_turn_that_fails() -> None:
    talk = conversation()
    talk.take(said("Go."))
    for event in (*CALLS[:-2], finished(FinishReason.LENGTH)):
        talk.see(event)
    assert len(messages(talk.take(said("On.")))) == 3
    talk.fail()
    assert len(messages(talk.take(results("a")))) == 3


def test_what_failed_does_not_count_against_the_size() -> None:
    talk = conversation(max_bytes=100)
    for _ in range(10):
        talk.take(said("x" * 60))
        talk.fail()


def test_overrides_are_of_one_turn_and_named_in_its_errors() -> None:
    talk = conversation()
    message = said("one")
    message.overrides.max_output_tokens = 0
    request = talk.take(message)
    assert request is not None
    assert request.max_output_tokens == 0
    with pytest.raises(InvalidRequestError) as caught:
        validate(request)
    assert caught.value.field == "message.overrides.max_output_tokens"
    talk.fail()
    again = talk.take(said("one"))
    assert again is not None
    assert again.max_output_tokens is None


def test_an_id_is_of_one_turn_and_named_in_its_errors() -> None:
    talk = conversation()
    message = said("one")
    message.request_id = "not an id"
    message.overrides.max_output_tokens = 0
    request = talk.take(message)
    assert request is not None
    assert request.client_request_id == "not an id"
    with pytest.raises(InvalidRequestError) as caught:
        validate(request)
    fields = [each.field for each in (caught.value, *caught.value.others)]
    assert fields == ["message.overrides.max_output_tokens", "message.request_id"]
    talk.fail()
    again = talk.take(said("one"))
    assert again is not None
    assert again.client_request_id == ""


def test_the_last_id_of_several_results_counts() -> None:
    talk = conversation()
    talk.take(said("one"))
    run(talk, *CALLS, reason=FinishReason.TOOL_CALLS)
    first, second = results("a"), results("b")
    first.request_id, second.request_id = "first", "second"
    assert talk.take(first) is None
    request = talk.take(second)
    assert request is not None
    assert request.client_request_id == "second"


def test_an_id_of_a_message_that_begins_no_turn_is_forgotten() -> None:
    talk = conversation()
    with pytest.raises(InvalidRequestError):
        talk.take(pb.UserMessage(request_id="turn-1"))
    talk.fail()
    request = talk.take(said("one"))
    assert request is not None
    assert request.client_request_id == ""
