"""What is too much is refused at both APIs alike, in each API's own terms."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest

from bridge.core.contract.errors import InvalidRequestError
from bridge.core.contract.limits import BOUNDS
from bridge.grpc_server.wire.decode import decode_request, decode_results, decode_said
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.responses.decode import parse_responses
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.grpc.client import question
from tests.support.grpc.details import Details, details_of
from tests.support.harness import PATIENCE, RunningBridge

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJg"
    "gg=="
)


def nested(levels: int) -> str:
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


DEEP = nested(BOUNDS.schema_levels + 1)
WIDE = json.dumps({"description": "x" * BOUNDS.schema_characters})
LARGE = PNG + b"x" * BOUNDS.image_characters
BOMB = PNG[:16] + struct.pack(">II", 8_000, BOUNDS.image_pixels // 8_000 + 1) + PNG[24:]


def image(data: bytes) -> dict[str, Any]:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def images(count: int, data: bytes) -> Callable[[pb.CompleteRequest], None]:
    def add(request: pb.CompleteRequest) -> None:
        image = pb.Image(data=pb.Blob(media_type="image/png", content=data))
        request.completion.messages[0].parts.extend([pb.Part(image=image)] * count)

    return add


def tools(names: list[str], schema: str) -> dict[str, Any]:
    return {
        "tools": [
            {"type": "function", "function": {"name": name, "parameters": json.loads(schema)}}
            for name in names
        ]
    }


def proto_tools(names: list[str], schema: str) -> Callable[[pb.CompleteRequest], None]:
    def add(request: pb.CompleteRequest) -> None:
        request.completion.tools.extend(
            pb.Tool(name=name, parameters_json=schema) for name in names
        )

    return add


def answer_schema(schema: str) -> dict[str, Any]:
    inner = {"name": "x", "schema": json.loads(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": inner}}


def proto_schema(schema: str) -> Callable[[pb.CompleteRequest], None]:
    def add(request: pb.CompleteRequest) -> None:
        request.completion.output_format.kind = pb.OutputFormat.KIND_JSON_SCHEMA
        request.completion.output_format.schema_json = schema

    return add


MANY = [f"tool{number}" for number in range(BOUNDS.tools + 1)]
TOO_LONG = "x" * (BOUNDS.stop_characters + 1)


@dataclass(frozen=True)
class Case:
    """Too much of something, as each API reports it."""

    http: dict[str, Any]
    proto: Callable[[pb.CompleteRequest], None]
    param: str
    field: str
    bound: int
    status: int = 400


def conversation(length: int) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": "x"} for n in range(length)]}


def proto_conversation(length: int) -> Callable[[pb.CompleteRequest], None]:
    roles = (pb.ROLE_USER, pb.ROLE_ASSISTANT)

    def add(request: pb.CompleteRequest) -> None:
        del request.completion.messages[:]
        for n in range(length):
            request.completion.messages.add(role=roles[n % 2], parts=[pb.Part(text="x")])

    return add


def parts(count: int) -> Callable[[pb.CompleteRequest], None]:
    return lambda request: request.completion.messages[0].parts.extend([pb.Part(text="x")] * count)


PIECE = {"type": "text", "text": "x"}
CASES = {
    "messages": Case(
        conversation(BOUNDS.messages + 1), proto_conversation(BOUNDS.messages + 1),
        "messages", "messages", BOUNDS.messages,
    ),
    "parts of a message": Case(
        {"messages": [{"role": "user", "content": [PIECE] * (BOUNDS.parts + 1)}]},
        parts(BOUNDS.parts + 1), "messages[0]", "messages[0]", BOUNDS.parts,
    ),
    "tools": Case(tools(MANY, "{}"), proto_tools(MANY, "{}"), "tools", "tools", BOUNDS.tools),
    "depth of a tool": Case(
        tools(["a"], DEEP), proto_tools(["a"], DEEP), "tools", "tools", BOUNDS.schema_levels
    ),
    "size of a tool": Case(
        tools(["a"], WIDE), proto_tools(["a"], WIDE), "tools", "tools",
        BOUNDS.schema_characters, 413,
    ),
    "depth of the answer": Case(
        answer_schema(DEEP), proto_schema(DEEP), "response_format", "output_format",
        BOUNDS.schema_levels,
    ),
    "size of the answer": Case(
        answer_schema(WIDE), proto_schema(WIDE), "response_format", "output_format",
        BOUNDS.schema_characters, 413,
    ),
    "images": Case(
        {"messages": [{"role": "user", "content": [image(PNG)] * (BOUNDS.images + 1)}]},
        images(BOUNDS.images + 1, PNG), "messages[0]", "messages[0]", BOUNDS.images,
    ),
    "size of an image": Case(
        {"messages": [{"role": "user", "content": [image(LARGE)]}]},
        images(1, LARGE), "messages[0]", "messages[0]", BOUNDS.image_characters, 413,
    ),
    "pixels of an image": Case(
        {"messages": [{"role": "user", "content": [image(BOMB)]}]},
        images(1, BOMB), "messages[0]", "messages[0]", BOUNDS.image_pixels, 413,
    ),
    "a stop text": Case(
        {"stop": TOO_LONG}, lambda request: request.completion.sampling.stop.append(TOO_LONG),
        "stop", "sampling.stop", BOUNDS.stop_characters,
    ),
    "the system prompt": Case(
        {
            "messages": [
                {"role": "system", "content": "x" * (BOUNDS.system_characters + 1)},
                {"role": "user", "content": "Hello"},
            ]
        },
        lambda request: setattr(request.completion, "system", "x" * (BOUNDS.system_characters + 1)),
        "messages", "system", BOUNDS.system_characters, 413,
    ),
    "the name of the model": Case(
        {"model": "x" * (BOUNDS.name_characters + 1)},
        lambda request: setattr(request.completion, "model", "x" * (BOUNDS.name_characters + 1)),
        "model", "model", BOUNDS.name_characters,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_too_much(name: str, bridge: RunningBridge) -> None:
    case = CASES[name]
    body = {"messages": [{"role": "user", "content": "Hello"}], **case.http}
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        reply = await client.post(f"{bridge.url}/v1/chat/completions", json=body)
    assert reply.status_code == case.status, reply.text
    error = reply.json()["error"]
    assert error["param"] == case.param
    assert str(case.bound) in error["message"]

    request = question()
    case.proto(request)
    details = await refused(bridge, request)
    too_large = case.status == 413
    codes = grpc.StatusCode
    assert details.code is (codes.RESOURCE_EXHAUSTED if too_large else codes.INVALID_ARGUMENT)
    assert details.info.metadata["field"] == f"completion.{case.field}"
    assert str(case.bound) in details.message
    if not too_large:
        assert details.fields == [f"completion.{case.field}"]


async def refused(bridge: RunningBridge, request: pb.CompleteRequest) -> Details:
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        call = CompletionServiceStub(channel).Complete(request, timeout=PATIENCE)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        return await details_of(error.value)


async def test_a_conversation_on_one_call_keeps_to_the_same(bridge: RunningBridge) -> None:
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        talk = CompletionServiceStub(channel).Converse(timeout=PATIENCE)
        opened = pb.OpenConversation(
            completion=pb.CompletionSpec(tools=[pb.Tool(name="a", parameters_json=DEEP)])
        )
        await talk.write(pb.ConverseRequest(open=opened))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asyncio.wait_for(talk.read(), PATIENCE)
        assert (await details_of(error.value)).fields == ["open.completion.tools"]


async def test_arguments_that_nest_too_deeply(bridge: RunningBridge) -> None:
    deep = nested(BOUNDS.json_levels + 1)
    call = {"id": "1", "type": "function", "function": {"name": "a", "arguments": deep}}
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        url = f"{bridge.url}/v1/chat/completions"
        reply = await client.post(url, json={"messages": messages})
        body = await client.post(url, content=f'{{"messages": {"[" * 5000}')
    # They go as a text: nothing further on has to read so many levels.
    assert reply.status_code == 200
    named = reply.headers["x-bridge-ignored-params"]
    assert "messages.tool_calls.function.arguments" in named
    # A body is not even parsed.
    assert body.json()["error"]["code"] == "nested_too_deeply"


async def test_a_message_of_too_many_levels_is_refused_by_protobuf_itself(
    bridge: RunningBridge,
) -> None:
    # A part within a tool result within a part …: field 5 of Part, field 2 of ToolResult.
    part, result = (
        pb.Part.DESCRIPTOR.fields_by_name["tool_result"].number,
        pb.ToolResult.DESCRIPTOR.fields_by_name["content"].number,
    )
    inner = b""
    for number in [result, part] * 100:
        inner = bytes((number << 3 | 2,)) + _varint(len(inner)) + inner
    message = pb.Message(role=pb.ROLE_USER).SerializeToString()
    parts = pb.Message.DESCRIPTOR.fields_by_name["parts"].number
    message += bytes((parts << 3 | 2,)) + _varint(len(inner)) + inner
    messages = pb.CompletionSpec.DESCRIPTOR.fields_by_name["messages"].number
    spec = bytes((messages << 3 | 2,)) + _varint(len(message)) + message
    completion = pb.CompleteRequest.DESCRIPTOR.fields_by_name["completion"].number
    raw = bytes((completion << 3 | 2,)) + _varint(len(spec)) + spec
    async with grpc.aio.insecure_channel(bridge.target) as channel:
        method: Any = channel.unary_stream("/bridge.v1.CompletionService/Complete")
        call = method(raw, timeout=PATIENCE)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        assert (await details_of(error.value)).info.reason == "MALFORMED_MESSAGE"


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded += bytes((number & 127 | 128,))
        number >>= 7
    return encoded + bytes((number,))


def test_what_is_too_many_is_counted_before_each_is_read() -> None:
    """Reading a million of them would hold up everybody else's answers for many seconds."""
    part, message = pb.Part(), pb.Message()  # neither could be read
    many = [part] * (BOUNDS.parts + 1)
    crowd = [pb.Message(parts=[part] * BOUNDS.parts)] * (BOUNDS.all_parts // BOUNDS.parts + 1)
    result = pb.Part(tool_result=pb.ToolResult(content=many))
    for request, things in (
        (
            pb.CompleteRequest(
                completion=pb.CompletionSpec(messages=[message] * (BOUNDS.messages + 1))
            ),
            "messages",
        ),
        (pb.CompleteRequest(completion=pb.CompletionSpec(messages=crowd)), "parts in all messages"),
        (
            pb.CompleteRequest(completion=pb.CompletionSpec(messages=[pb.Message(parts=many)])),
            "parts in one message",
        ),
        (
            pb.CompleteRequest(completion=pb.CompletionSpec(messages=[pb.Message(parts=[result])])),
            "parts in one message",
        ),
        (
            pb.CompleteRequest(
                completion=pb.CompletionSpec(tools=[pb.Tool()] * (BOUNDS.tools + 1))
            ),
            "tools",
        ),
    ):
        with pytest.raises(InvalidRequestError, match=f"at most [0-9]+ {things}"):
            decode_request(request)
    with pytest.raises(InvalidRequestError, match="parts in one message"):
        decode_said(pb.UserMessage(parts=many))
    for results in (
        pb.ToolResults(results=[pb.ToolResult()] * len(many)),
        pb.ToolResults(results=[pb.ToolResult(content=many)]),
    ):
        with pytest.raises(InvalidRequestError, match="parts in one message"):
            list(decode_results(results))
    items = [None] * (BOUNDS.messages + 1)
    with pytest.raises(InvalidRequestError, match=f"at most {BOUNDS.messages} messages"):
        decode_chat({"messages": items}, CallOptions())
    with pytest.raises(InvalidRequestError, match=f"at most {BOUNDS.messages} items"):
        parse_responses({"input": items})
