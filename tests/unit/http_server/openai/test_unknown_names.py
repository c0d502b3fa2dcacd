"""Names that no object of a request has: all are named, and refused in strict mode."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, get_args

import pytest

from bridge.core.contract import CompletionRequest, UnsupportedError
from bridge.core.validation import validate
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.chat.wire import ChatCompletionRequest
from bridge.http_server.openai.completions.decode import decode_text_completion
from bridge.http_server.openai.completions.wire import TextCompletionRequest
from bridge.http_server.openai.responses.compaction.summaries import packed
from bridge.http_server.openai.responses.decode import Past, decode_responses, parse_responses
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.responses.wire_items import OtherItem
from bridge.http_server.openai.responses.wire_tools import OtherTool
from bridge.http_server.openai.shared.wire_content import ContentPartInputAudio
from bridge.http_server.wire import Treatment, WireModel, rules_of

Json: TypeAlias = dict[str, Any]
Decode: TypeAlias = Callable[[Json, CallOptions], CompletionRequest]

PNG: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP6DwABBQECz6"
    "AuzQAAAABJRU5ErkJggg=="
)
TEXT: Final = "data:text/plain;base64,aGk="

CHAT: Final[list[Json]] = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look."},
                    {"type": "image_url", "image_url": {"url": PNG}},
                    {"type": "file", "file": {"file_data": TEXT}},
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": "No."}],
                "tool_calls": [{"id": "c1", "function": {"name": "look", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "seen"}]},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"schema": {"type": "object", "properties": {}}},
        },
        "metadata": {"a": "b"},
    },
    {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"function": {"name": "look"}}],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "look"}}]},
        },
        "response_format": {"type": "text"},
    },
    {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "function", "name": "look", "content": "seen"},
        ],
        "functions": [{"name": "look"}],
        "function_call": {"name": "look"},
        "response_format": {"type": "json_object"},
    },
]
RESPONSES: Final[list[Json]] = [
    {
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Look."},
                    {"type": "text", "text": "Look."},
                    {"type": "input_image", "image_url": PNG},
                    {"type": "input_file", "file_data": TEXT},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "Well."},
                    {"type": "refusal", "refusal": "No."},
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "additional_tools", "role": "developer", "tools": [{"name": "more"}]},
            {"type": "configuration_update", "reasoning": {"effort": "low"}},
            {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "x"},
            {"type": "tool_search_call", "call_id": "c3", "arguments": {}},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "done"},
            {"type": "tool_search_output", "call_id": "c3", "tools": []},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [{"type": "input_text", "text": "seen"}],
            },
            {"type": "compaction", "encrypted_content": packed("So far.")},
            {"type": "compaction_trigger"},
        ],
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "tools": [{"type": "function", "name": "look", "parameters": {}}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"name": "look"}]},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
        "reasoning": {"effort": "low"},
    },
    {
        "input": "hi",
        "conversation": {"id": "conv_1"},
        "tools": [
            {"name": "look"},
            {
                "type": "custom",
                "name": "patch",
                "format": {"type": "grammar", "syntax": "lark", "definition": "start: WORD"},
            },
            {
                "type": "namespace",
                "name": "notes",
                "tools": [{"type": "function", "name": "recall"}],
            },
            {"type": "tool_search", "execution": "client", "parameters": {}},
        ],
        "tool_choice": {"type": "function", "name": "look"},
    },
]
TEXT_COMPLETIONS: Final[list[Json]] = [
    {"prompt": "hi", "stream": True, "stream_options": {"include_usage": True}}
]


def responses(body: Json, options: CallOptions) -> CompletionRequest:
    wire = parse_responses(body)
    return decode_responses(wire, body, options, Past(), "1", keeps=True).request


def endpoints() -> Iterator[tuple[Decode, type[WireModel], list[Json]]]:
    yield lambda body, options: decode_chat(body, options).request, ChatCompletionRequest, CHAT
    yield responses, ResponsesRequest, RESPONSES
    yield (
        lambda body, options: decode_text_completion(body, options).request,
        TextCompletionRequest,
        TEXT_COMPLETIONS,
    )


FREE: Final = frozenset({"parameters", "schema", "metadata", "arguments"})
"""Objects whose names are the caller's own."""


def objects_in(value: Any, kind: str = "", where: str = "") -> Iterator[tuple[Json, str, str]]:
    """Each object of a body, with what comes before the names in it."""
    if isinstance(value, dict):
        yield value, kind, where
        for name, inner in value.items():
            if name not in FREE:
                yield from objects_in(inner, f"{kind}{name}.", f"{where}{name}.")
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from objects_in(inner, kind, f"{where.removesuffix('.')}[{index}].")


CASES: Final = [
    pytest.param(decode, body, number, id=f"{model.__name__}-{index}-{where or 'body'}")
    for decode, model, bodies in endpoints()
    for index, body in enumerate(bodies)
    for number, (_, _, where) in enumerate(objects_in(body))
]


@pytest.mark.parametrize(("decode", "body", "number"), CASES)
def test_a_name_that_an_object_does_not_have_is_named_with_its_path(
    decode: Decode, body: Json, number: int
) -> None:
    validate(decode(body, CallOptions(strict=True)))
    body = copy.deepcopy(body)
    inside, kind, where = list(objects_in(body))[number]
    inside["made_up"] = {"a": 1}

    assert decode(body, CallOptions()).ignored == (f"{kind}made_up",)
    with pytest.raises(UnsupportedError) as caught:
        decode(body, CallOptions(strict=True))
    assert (caught.value.field, caught.value.reason) == (
        f"{where}made_up",
        "UNSUPPORTED_PARAMETER",
    )


@pytest.mark.parametrize("hint", ["cache_control", "prompt_cache_breakpoint"])
@pytest.mark.parametrize(("decode", "body", "number"), CASES)
def test_marks_of_a_prompt_cache_are_no_matter(
    decode: Decode, body: Json, number: int, hint: str
) -> None:
    if number == 0:
        # A body has no place in a prompt.
        return
    body = copy.deepcopy(body)
    list(objects_in(body))[number][0][hint] = {"type": "ephemeral"}

    assert decode(body, CallOptions(strict=True)).ignored == ()


def models_in(model: type[WireModel]) -> Iterator[type[WireModel]]:
    """The models of all objects that one of this model may hold, as far as they are read."""
    yield model
    rules = rules_of(model)
    for name, field in model.model_fields.items():
        if rules[field.alias or name].treatment is Treatment.HONOURED:
            for inner in _models_of(field.annotation):
                yield from models_in(inner)


def _models_of(annotation: Any) -> Iterator[type[WireModel]]:
    if isinstance(annotation, type) and issubclass(annotation, WireModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_of(argument)


REFUSED: Final = {ContentPartInputAudio, OtherItem, OtherTool}
"""Never served, whatever is in them."""
STORED: Final = {"HostedItem", "ItemReference"}
"""What stands for an item that is kept, and what has no effect whatever it holds."""


def seen(wire: Any) -> Iterator[type[WireModel]]:
    if isinstance(wire, WireModel):
        yield type(wire)
        for _, value in wire:
            yield from seen(value)
    if isinstance(wire, list):
        for value in wire:
            yield from seen(value)


@pytest.mark.parametrize(
    ("model", "bodies"),
    [pytest.param(model, bodies, id=model.__name__) for _, model, bodies in endpoints()],
)
def test_every_object_that_a_request_may_hold_is_among_those_of_the_tests(
    model: type[WireModel], bodies: list[Mapping[str, Any]]
) -> None:
    tried = {each for body in bodies for each in seen(model.model_validate(body))}

    left = set(models_in(model)) - tried - REFUSED
    assert {each.__name__ for each in left} <= STORED


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (
            {"response_format": {"type": "json_object", "schema": {"type": "object"}}},
            "response_format.schema",
        ),
        (
            {"response_format": {"type": "json_object", "json_schema": {"schema": {}}}},
            "response_format.json_schema",
        ),
        ({"messages": [{"role": "user", "content": "a", "tool_calls": []}]}, ""),
        (
            {"messages": [{"role": "user", "content": "a", "tool_call_id": "c"}]},
            "messages.tool_call_id",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b", "refusal": "c"},
                    {"role": "user", "content": "d"},
                ]
            },
            "messages.refusal",
        ),
    ],
)
def test_what_belongs_to_another_kind_of_object_is_named(parameters: Json, name: str) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], **parameters}

    assert decode_chat(body, CallOptions()).request.ignored == ((name,) if name else ())


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"text": {"format": {"type": "text", "schema": {"a": 1}}}}, "text.format.schema"),
        (
            {
                "tools": [{"name": "look"}],
                "tool_choice": {"type": "function", "name": "look", "mode": "auto"},
            },
            "tool_choice.mode",
        ),
        (
            {"reasoning": {"summary": "auto", "generate_summary": "concise"}},
            "reasoning.generate_summary",
        ),
        (
            {
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "input_file",
                                "file_data": TEXT,
                                "file_url": "https://x.example/a.pdf",
                            }
                        ],
                    }
                ]
            },
            "input.content.file_url",
        ),
    ],
)
def test_what_another_field_makes_idle_is_named(parameters: Json, name: str) -> None:
    assert responses({"input": "hi", **parameters}, CallOptions()).ignored == (name,)
