"""Fields that the proto has not: all are named by their path, and refused where it is strict."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from bridge.core.contract.errors import TooLargeError, UnsupportedError
from bridge.core.contract.events import Event, Started
from bridge.core.contract.request import CompletionRequest
from bridge.grpc_server.wire.decode import decode_conversation, decode_request
from bridge.grpc_server.wire.unknown_fields import unknown_fields
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.integration.grpc_server.conftest import Serve
from tests.support.fakes import STOP, FakeService
from tests.support.grpc.client import Talk
from tests.support.waiting import soon

FIELD_100 = b"\xa0\x06\x01"
"""Its tag and a number."""


def known() -> pb.CompleteRequest:
    return pb.CompleteRequest(
        completion=pb.CompletionSpec(
            messages=[
                pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="hi")]),
                pb.Message(
                    role=pb.ROLE_ASSISTANT,
                    parts=[
                        pb.Part(tool_call=pb.ToolCall(id="c1", name="add", arguments_json="{}"))
                    ],
                ),
                pb.Message(
                    role=pb.ROLE_USER,
                    parts=[
                        pb.Part(
                            tool_result=pb.ToolResult(
                                call_id="c1",
                                content=[
                                    pb.Part(
                                        document=pb.Document(
                                            data=pb.Blob(media_type="text/plain", content=b"hi")
                                        )
                                    )
                                ],
                            )
                        )
                    ],
                ),
            ],
            tools=[pb.Tool(name="add")],
            tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_AUTO),
            sampling=pb.Sampling(temperature=0.5),
            output_format=pb.OutputFormat(kind=pb.OutputFormat.KIND_TEXT),
        ),
        labels={"team": "search"},
    )


PLACES: list[tuple[Callable[[pb.CompleteRequest], Message], str]] = [
    (lambda request: request, ""),
    (lambda request: request.completion.messages[1], "completion.messages[1]."),
    (lambda request: request.completion.messages[0].parts[0], "completion.messages[0].parts[0]."),
    (
        lambda request: request.completion.messages[1].parts[0].tool_call,
        "completion.messages[1].parts[0].tool_call.",
    ),
    (
        lambda request: (
            request.completion.messages[2].parts[0].tool_result.content[0].document.data
        ),
        "completion.messages[2].parts[0].tool_result.content[0].document.data.",
    ),
    (lambda request: request.completion.tools[0], "completion.tools[0]."),
    (lambda request: request.completion.tool_choice, "completion.tool_choice."),
    (lambda request: request.completion.sampling, "completion.sampling."),
    (lambda request: request.completion.output_format, "completion.output_format."),
]


@pytest.mark.parametrize(("place", "where"), PLACES, ids=[where or "it" for _, where in PLACES])
def test_a_field_that_is_unknown_is_named_with_its_path(
    place: Callable[[pb.CompleteRequest], Message], where: str
) -> None:
    request = known()
    assert decode_request(request).ignored == ()
    place(request).MergeFromString(FIELD_100)
    kind = "".join(c for c in where if c not in "[]0123456789")
    assert decode_request(request).ignored == (f"{kind}100",)
    request.completion.strict = True
    with pytest.raises(UnsupportedError) as caught:
        decode_request(request)
    assert (caught.value.field, caught.value.reason) == (f"{where}100", "UNSUPPORTED_PARAMETER")


def test_a_name_comes_once() -> None:
    request = known()
    for message in request.completion.messages:
        message.MergeFromString(FIELD_100 * 2)
    assert decode_request(request).ignored == ("completion.messages.100",)


def test_very_many_are_refused() -> None:
    request = pb.CompleteRequest.FromString(FIELD_100 * 30_000)
    with pytest.raises(TooLargeError, match="65536 bytes"):
        unknown_fields(request, strict=False)


def test_those_of_a_conversation_are_named_as_its_caller_wrote_them() -> None:
    request = pb.ConverseRequest(
        open=pb.OpenConversation(completion=pb.CompletionSpec(model="opus"))
    )
    request.MergeFromString(FIELD_100)
    request.open.MergeFromString(FIELD_100)
    assert decode_conversation(request).ignored == ("100", "open.100")


async def naming(request: CompletionRequest) -> AsyncGenerator[Event, None]:
    yield Started("m", request.ignored)
    yield STOP


async def test_the_answer_names_them(serve: Serve, service: FakeService) -> None:
    service.script = naming
    _, channel = await serve()
    request = known()
    request.completion.tools[0].MergeFromString(FIELD_100)
    call = pb_grpc.CompletionServiceStub(channel).Complete(request)
    first: Any = await soon(call.read())
    assert list(first.event.started.ignored_params) == ["completion.tools.100"]


async def test_each_turn_of_a_conversation_names_its_own(
    serve: Serve, service: FakeService
) -> None:
    service.script = naming
    _, channel = await serve()
    talk = Talk(channel)
    settings = pb.OpenConversation()
    settings.MergeFromString(FIELD_100)
    await talk.send(open=settings)
    message = pb.UserMessage(parts=[pb.Part(text="hi")])
    message.parts[0].MergeFromString(FIELD_100)
    named = []
    for said in (message, pb.UserMessage(parts=[pb.Part(text="hi")])):
        await talk.send(message=said)
        named.append(list((await talk.until("started")).event.started.ignored_params))
        await talk.turn()
    assert named == [["open.100", "message.parts.100"], ["open.100"]]


async def test_a_strict_conversation_refuses_them(serve: Serve, service: FakeService) -> None:
    _, channel = await serve()
    talk = await Talk(channel).open(strict=True)
    message = pb.UserMessage(parts=[pb.Part(text="hi")])
    message.MergeFromString(FIELD_100)
    await talk.send(message=message)
    failed = (await talk.outcome()).failure
    assert failed is not None
    assert failed.status == "INVALID_ARGUMENT"
    assert (failed.reason, failed.field) == ("UNSUPPORTED_PARAMETER", "message.100")
