"""All that is wrong with a request is named at once, at every API."""

from __future__ import annotations

from typing import Any

from bridge.core.contract.errors import BridgeError, InvalidRequestError
from bridge.core.contract.request import (
    CompletionRequest,
    ImagePart,
    Message,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
)
from bridge.grpc_server.wire.decode import decode_request
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.v1 import completion_pb2 as pb
from tests.integration.parity.test_every_api import (
    Judge,
    by_chat,
    by_grpc,
    by_responses,
    judge,
)

__all__ = ["judge"]


def all_fields(error: BridgeError | None) -> list[str | None]:
    assert isinstance(error, InvalidRequestError)
    return [error.field, *(other.field for other in error.others)]


def test_all_that_breaks_rules_is_named(judge: Judge) -> None:
    words = TextPart("a")
    broken = CompletionRequest(
        (
            Message(Role.USER, (words, ImagePart(UrlSource("http://x.example/a")))),
            Message(Role.ASSISTANT, (ToolCallPart("", "look", "{}"),)),
            Message(Role.USER, (ToolResultPart(""), words)),
        ),
        tools=(Tool("a"), Tool("a"), Tool("a b")),
        sampling=Sampling(-0.5, 1.5, ("a", "b", "c", "d", "e")),
        max_output_tokens=0,
    )
    fields = [
        "messages[0].parts[1].image",
        "messages[1].parts[0].tool_call.id",
        "tools[1].name",
        "tools[2].name",
        "sampling.temperature",
        "sampling.top_p",
        "sampling.stop",
        "max_output_tokens",
    ]
    assert all_fields(judge(lambda: broken)) == fields
    assert all_fields(judge(by_grpc(broken)[1])) == [f"completion.{name}" for name in fields]
    # HTTP has some of these rules in its schema, which is checked first.
    own = {"tools[2].function.name", "temperature", "top_p", "stop", "max_tokens"}
    assert set(all_fields(judge(by_chat(broken)[1]))) == own
    own = {"tools[2].name", "temperature", "top_p", "max_output_tokens"}
    assert set(all_fields(judge(by_responses(broken)[1]))) == own


def test_all_that_cannot_be_decoded_is_named(judge: Judge) -> None:
    chat: dict[str, Any] = {
        "messages": [
            {"role": "user", "content": 5},
            {"role": "user", "content": "a"},
            {"role": "nobody", "content": "a"},
        ],
        "stop": [1, "a"],
        "response_format": {"type": "json_schema"},
        "temperature": "warm",
    }
    assert all_fields(judge(lambda: decode_chat(chat, CallOptions()).request)) == [
        "messages[0].content",
        "messages[2].role",
        "temperature",
        "stop[0]",
        "response_format.json_schema",
    ]
    chat = {
        "messages": [{"role": "user", "content": "a"}],
        "tools": [{"type": "web_search"}],
        "n": 2,
        "modalities": ["audio"],
        "seed": 7,
    }
    assert all_fields(judge(lambda: decode_chat(chat, CallOptions(strict=True)).request)) == [
        "tools[0].type",
        "n",
        "modalities",
        "seed",
    ]
    wire = pb.CompleteRequest(
        completion=pb.CompletionSpec(
            messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part()]), pb.Message()],
            tools=[pb.Tool(name="a", parameters_json="[")],
            effort=99,  # type: ignore[arg-type]
            sampling=pb.Sampling(temperature=2),
            max_output_tokens=0,
        )
    )
    assert all_fields(judge(lambda: decode_request(wire))) == [
        "completion.messages[0].parts[0]",
        "completion.messages[1].role",
        "completion.tools[0].parameters_json",
        "completion.effort",
        "completion.sampling.temperature",
        "completion.max_output_tokens",
    ]


def test_no_more_than_twenty_faults_are_looked_for(judge: Judge) -> None:
    message = Message(Role.USER, (TextPart("a"),))
    broken = CompletionRequest((message,), tools=(Tool("a b"),) * 30)
    assert len(all_fields(judge(lambda: broken))) == 20
    chat: dict[str, Any] = {"messages": [{"role": "user"}] * 30}
    assert len(all_fields(judge(lambda: decode_chat(chat, CallOptions()).request))) == 20
