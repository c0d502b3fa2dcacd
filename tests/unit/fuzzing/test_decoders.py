"""Whatever comes: it is decoded, or refused with words for the caller. Never anything else.

The decoders of both APIs, and what the core does with a request before a process gets it.
"""

from __future__ import annotations

import json
from random import Random

from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.core.claude.lines import replay_lines, user_line
from bridge.core.claude.turn_settings import setting_changes
from bridge.core.contract.errors import BridgeError
from bridge.core.contract.events import (
    Event,
    Finished,
    FinishReason,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.usage import Usage
from bridge.core.engine.planning.planner import Planner
from bridge.core.validation import validate
from bridge.grpc_server.conversation import Conversation
from bridge.grpc_server.status import status_of
from bridge.grpc_server.wire.decode import decode_conversation, decode_request
from bridge.http_server.body.reading import parse_json
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.completions.decode import decode_text_completion
from bridge.http_server.openai.shared.errors import error_body, row_of
from bridge.v1 import completion_pb2 as pb
from tests.support.harness import SCALE
from tests.support.mutations import CHATS, COMPLETE, TEXTS, as_body, junk, mutated, mutated_proto

# What is wrong with the whole of a request has no field.
WHOLE = {"INVALID_JSON", "INVALID_TYPE", "NESTED_TOO_DEEPLY"}


def examples(count: int) -> settings:
    """So many, a tenth of them in an ordinary run, and there always the same."""
    return settings(
        max_examples=count // 10 * SCALE,
        derandomize=SCALE == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


SEEDS = st.integers(0, 2**64)


def refused_well(error: BridgeError) -> None:
    """An error of the caller, which both APIs can encode."""
    assert 400 <= row_of(error).status < 500, error
    json.dumps(error_body(error, "req_1"))
    status_of(error, "req_1")
    named = getattr(error, "field", None)
    # A caller's own parameter may have an empty name.
    assert named is not None or error.reason in WHOLE, error


def prepared(request: CompletionRequest) -> None:
    """All that is derived from a request before a process gets it."""
    request = validate(request)
    plan = Planner(None).plan(request)
    plan.need()
    told: list[object] = [setting_changes(None, plan.settings)]
    told += [line if isinstance(line, dict) else line.wire for line in replay_lines(plan.history)]
    told.append(user_line(plan.last, query=True).wire)
    told.append([[tool.name, tool.parameters] for tool in plan.scope.tools])
    # As the CLI reads it: strictly.
    json.dumps(told, allow_nan=False)
    plan.reader(Usage())
    plan.filters()


@given(SEEDS)
@examples(8_000)
def test_chats(seed: int) -> None:
    rng = Random(seed)
    value = mutated(rng, rng.choice(CHATS)) if rng.random() < 0.95 else junk(rng)
    options = CallOptions(request_id="req_1", strict=rng.random() < 0.2)
    try:
        prepared(decode_chat(parse_json(as_body(rng, value)), options).request)
    except BridgeError as error:
        refused_well(error)


@given(SEEDS)
@examples(1_000)
def test_text_completions(seed: int) -> None:
    rng = Random(seed)
    body = as_body(rng, mutated(rng, rng.choice(TEXTS)))
    try:
        prepared(decode_text_completion(parse_json(body), CallOptions()).request)
    except BridgeError as error:
        refused_well(error)


@given(st.binary(max_size=200))
@examples(500)
def test_any_bytes_as_a_body(body: bytes) -> None:
    try:
        decode_chat(parse_json(body), CallOptions())
    except BridgeError as error:
        refused_well(error)


@given(SEEDS)
@examples(7_000)
def test_complete_requests(seed: int) -> None:
    rng = Random(seed)
    data = mutated_proto(rng, rng.choice(COMPLETE))
    try:
        prepared(decode_request(pb.CompleteRequest.FromString(data), request_id="req_1"))
    except DecodeError:
        pass
    except BridgeError as error:
        refused_well(error)


@given(st.binary(max_size=200))
@examples(500)
def test_any_bytes_as_a_message(data: bytes) -> None:
    try:
        decode_request(pb.CompleteRequest.FromString(data))
    except DecodeError:
        pass
    except BridgeError as error:
        refused_well(error)


CALLS: tuple[Event, ...] = (
    ToolCallStart(0, "1", "look"),
    ToolCallDelta(0, "{}"),
    Finished(FinishReason.TOOL_CALLS, Usage()),
)
ANSWER: tuple[Event, ...] = (TextDelta("Hi"), Finished(FinishReason.STOP, Usage()))

SAID = (
    pb.ConverseRequest(
        message=pb.UserMessage(
            parts=COMPLETE[1].completion.messages[0].parts, request_id="order-4711"
        )
    ),
    pb.ConverseRequest(
        tool_results=pb.ToolResults(
            results=[pb.ToolResult(call_id="1", content=[pb.Part(text="seen")])],
            request_id="order-4712",
        )
    ),
    pb.ConverseRequest(message=pb.UserMessage(parts=COMPLETE[0].completion.messages[0].parts)),
)


@given(SEEDS)
@examples(2_000)
def test_conversations(seed: int) -> None:
    rng = Random(seed)
    chosen = rng.choice(COMPLETE)
    opened = pb.OpenConversation(completion=chosen.completion, labels=dict(chosen.labels))
    if rng.random() < 0.5:
        # The history must end with the model.
        del opened.completion.messages[-1:]
    try:
        if rng.random() < 0.3:
            opened = pb.OpenConversation.FromString(mutated_proto(rng, opened))
        conversation = Conversation(decode_conversation(pb.ConverseRequest(open=opened)), 100_000)
        for _ in range(rng.randrange(1, 6)):
            said = rng.choice(SAID)
            if rng.random() < 0.3:
                said = pb.ConverseRequest.FromString(mutated_proto(rng, said))
            match said.WhichOneof("request"):
                case "message":
                    request = conversation.take(said.message)
                case "tool_results":
                    request = conversation.take(said.tool_results)
                case _:
                    continue
            if request is None:
                continue
            prepared(request)
            if rng.random() < 0.2:
                conversation.cancel()
                continue
            for event in rng.choice((ANSWER, CALLS)):
                conversation.see(event)
    except DecodeError:
        pass
    except BridgeError as error:
        refused_well(error)
