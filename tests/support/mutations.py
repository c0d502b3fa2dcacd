"""Requests that are nearly right: valid ones, with something done to them.

Everything follows from a seed, so that what fails can be made again from the number alone.
"""

from __future__ import annotations

import copy
import json
import math
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as ProtoMessage

from bridge.v1 import completion_pb2 as pb
from tests.integration.privacy.test_bounds import PNG, image

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
SCHEMA = {
    "type": "object",
    "properties": {"at": {"type": "string"}, "n": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}},
    "required": ["at"],
}
TOOL = {"type": "function", "function": {"name": "look", "description": "L", "parameters": SCHEMA}}

CHATS: tuple[dict[str, Any], ...] = (
    {
        "model": "opus",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": [{"type": "text", "text": "Look."}, image(PNG)]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"filename": "a.txt", "file_data": "aGVsbG8="}},
                    {"type": "image_url", "image_url": "https://example.org/a.png"},
                ],
            },
        ],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "stop": ["\n\n", "END"],
        "metadata": {"a": "b"},
    },
    {
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 100,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "place", "strict": True, "schema": SCHEMA},
        },
        "reasoning_effort": "low",
        "logit_bias": {"1": 1},
        "seed": 7,
        "user": "someone",
    },
    {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "function", "name": "look", "content": "seen"},
        ],
        "functions": [{"name": "look", "parameters": SCHEMA}],
        "function_call": {"name": "look"},
        "stop": "x",
    },
    {
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": [TOOL, {"type": "function", "function": {"name": "listen"}}],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "listen"}}],
            },
        },
        "response_format": {"type": "json_object"},
    },
)
TEXTS: tuple[dict[str, Any], ...] = (
    {"prompt": "Hello", "max_tokens": 5, "stop": ["x"], "temperature": 1, "stream": False},
    {"prompt": ["Hello"], "model": "haiku", "echo": False, "n": 1, "best_of": 1, "suffix": None},
)

_NAMES = ("messages", "role", "content", "type", "$ref", "text", "id", "name", "", "\ud800", "a.b")


def junk(rng: Random) -> Any:
    """A value of any kind, most of them at some edge."""
    return rng.choice(
        (
            lambda: None,
            lambda: rng.random() < 0.5,
            lambda: rng.choice((0, -1, 1, 2**31, 2**63, 10**30, -(10**400))),
            lambda: rng.choice((0.0, -0.5, 1e308, math.nan, math.inf, -math.inf)),
            lambda: text(rng),
            list,
            dict,
            lambda: [junk(rng) for _ in range(rng.randrange(4))],
            lambda: {rng.choice(_NAMES): junk(rng) for _ in range(rng.randrange(4))},
            lambda: nested(rng),
        )
    )()


def text(rng: Random) -> str:
    """A text, most of them odd."""
    return rng.choice(
        (
            "",
            " ",
            "\x00",
            "\ud800",
            "\udfff\ud83d",
            "🙂",
            "../../etc/passwd",
            "@/etc/passwd",
            "data:image/png;base64,!!!",
            "data:,",
            "data:image/png;base64,aGVsbG8=",
            "https://",
            "file:///etc/passwd",
            "{}",
            '{"a": NaN}',
            '{"a": 1e999}',
            '{"a": "\\ud800"}',
            "[" * 2_000,
            '{"a":' * 200 + "1" + "}" * 200,
            "x" * rng.choice((10, 300, 70_000)),
            "".join(chr(rng.randrange(0x300)) for _ in range(rng.randrange(20))),
        )
    )


def nested(rng: Random) -> Any:
    """Lists and objects within each other."""
    value: Any = 1
    for _ in range(rng.choice((10, 70, 140, 400))):
        value = [value] if rng.random() < 0.5 else {rng.choice(_NAMES): value}
    return value


def mutated(rng: Random, valid: Any) -> Any:
    """A value with one to three things done to it."""
    value = copy.deepcopy(valid)
    for _ in range(rng.randrange(1, 4)):
        _mutate(rng, value)
    return value


def _mutate(rng: Random, root: Any) -> None:
    places = _places(root)
    if not places:
        return
    holder, key = rng.choice(places)
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1 | 2:
            holder[key] = junk(rng)
        case 3:
            # Another type with the same look.
            holder[key] = rng.choice((str, lambda x: [x], lambda x: {"text": x}))(holder[key])
        case 4:
            other, at = rng.choice(places)
            holder[key] = copy.deepcopy(other[at]) if at in _keys(other) else None
        case 5 if isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
        case 6 if isinstance(holder, dict):
            holder[rng.choice(_NAMES)] = holder.pop(key)
        case _:
            holder[key] = text(rng)


def _keys(holder: Any) -> Any:
    return range(len(holder)) if isinstance(holder, list) else holder


def _places(value: Any) -> list[tuple[Any, Any]]:
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(places) < 500:
        holder = waiting.pop()
        for key in _keys(holder):
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return places


def as_body(rng: Random, value: Any) -> bytes:
    """The value as the body of a request, one in four of them damaged."""
    body = json.dumps(value).encode()
    match rng.randrange(12):
        case 0:
            at = rng.randrange(len(body))
            return body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
        case 1:
            return body[: rng.randrange(len(body))]
        case 2:
            # Names that come twice.
            return body.replace(b'"role"', b'"role": 1, "role"').replace(b"{", b'{"a": [], ', 1)
        case 3:
            return b"\xef\xbb\xbf" + body
        case _:
            return body


COMPLETE: tuple[pb.CompleteRequest, ...] = (
    pb.CompleteRequest(
        completion=pb.CompletionSpec(
            model="opus",
            system="Be brief.",
            messages=[
                pb.Message(
                    role=pb.ROLE_USER,
                    parts=[
                        pb.Part(text="Look."),
                        pb.Part(image=pb.Image(data=pb.Blob(media_type="image/png", content=PNG))),
                        pb.Part(document=pb.Document(url="https://example.org/a.pdf", title="a")),
                    ],
                ),
                pb.Message(
                    role=pb.ROLE_ASSISTANT,
                    parts=[
                        pb.Part(tool_call=pb.ToolCall(id="1", name="look", arguments_json="{}"))
                    ],
                ),
                pb.Message(
                    role=pb.ROLE_USER,
                    parts=[
                        pb.Part(
                            tool_result=pb.ToolResult(call_id="1", content=[pb.Part(text="seen")])
                        ),
                        pb.Part(text="And?"),
                    ],
                ),
            ],
            tools=[pb.Tool(name="look", description="L", parameters_json=json.dumps(SCHEMA))],
            tool_choice=pb.ToolChoice(mode=pb.ToolChoice.MODE_NAMED, name="look", allowed=["look"]),
            sampling=pb.Sampling(temperature=0.5, top_p=0.9, stop=["x"]),
            max_output_tokens=100,
            effort=pb.EFFORT_LOW,
        ),
        request_id="order-4711",
        labels={"team": "search"},
    ),
    pb.CompleteRequest(
        completion=pb.CompletionSpec(
            messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="Hello")])],
            output_format=pb.OutputFormat(
                kind=pb.OutputFormat.KIND_JSON_SCHEMA, name="place", schema_json=json.dumps(SCHEMA)
            ),
            include_thinking=True,
            strict=True,
        ),
        detached=True,
    ),
)


def mutated_proto(rng: Random, valid: ProtoMessage) -> bytes:
    """The bytes of a message with one to three things done to it, one in eight of them damaged."""
    message = copy.deepcopy(valid)
    for _ in range(rng.randrange(1, 4)):
        _mutate_proto(rng, message)
    data = message.SerializeToString()
    if data and rng.randrange(8) == 0:
        at = rng.randrange(len(data))
        return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(3))) + data[at:]
    return data


def _mutate_proto(rng: Random, root: Any) -> None:
    within = [root]
    for message in within:
        for field, value in message.ListFields():
            if field.type == FieldDescriptor.TYPE_MESSAGE and not _is_map(field):
                within += value if field.is_repeated else [value]
    message = rng.choice([one for one in within if one.DESCRIPTOR.fields])
    field = rng.choice(message.DESCRIPTOR.fields)
    name = field.name
    if rng.random() < 0.2:
        message.ClearField(name)
    elif _is_map(field):
        key, value = field.message_type.fields
        for _ in range(rng.choice((1, 1, 2, 20))):
            getattr(message, name)[_scalar(rng, key)] = _scalar(rng, value)
    elif field.is_repeated:
        _mutate_repeated(rng, getattr(message, name), field)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        getattr(message, name).SetInParent()
    else:
        setattr(message, name, _scalar(rng, field))


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _mutate_repeated(rng: Random, values: Any, field: FieldDescriptor) -> None:
    if len(values) and rng.random() < 0.3:
        del values[rng.randrange(len(values))]
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if len(values) and rng.random() < 0.5:
            values.add().CopyFrom(rng.choice(values))
        else:
            values.add()
    else:
        values.append(_scalar(rng, field))


def _scalar(rng: Random, field: FieldDescriptor) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            # Protobuf itself takes no half of a surrogate pair.
            made = json.dumps(junk(rng)) if field.name.endswith("_json") else text(rng)
            return made.encode("utf-8", "replace").decode()
        case FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.randrange(50))
        case FieldDescriptor.TYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.TYPE_DOUBLE:
            return rng.choice((0.0, -1.0, 1.0, 1e308, math.nan, math.inf))
        case FieldDescriptor.TYPE_ENUM:
            return rng.choice((0, 1, 2, 3, 99, 2**31 - 1, -1))
        case _:
            return rng.choice((0, 1, -1, 2**31 - 1))
