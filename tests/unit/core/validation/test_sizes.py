"""The maximum sizes of a request."""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
from typing import Any

import pytest

from bridge.core.contract.errors import BridgeError, InvalidRequestError, TooLargeError
from bridge.core.contract.limits import BOUNDS, Bounds
from bridge.core.contract.request import (
    CompletionRequest,
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    OutputFormat,
    OutputKind,
    Part,
    Pieces,
    Role,
    Sampling,
    SearchResultPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
)
from bridge.core.validation.sizes import check_sizes, json_object
from bridge.core.validation.strict_json import NotJsonError, TooNestedError, parse_strict

SMALL = Bounds(
    messages=2,
    parts=2,
    all_parts=3,
    system_characters=5,
    tools=2,
    tools_characters=60,
    schema_levels=3,
    schema_characters=50,
    tools_subschemas=5,
    schema_subschemas=7,
    schema_values=12,
    schema_references=2,
    schema_expanded=6,
    schema_pattern_characters=3,
    schema_text_characters=30,
    images=1,
    image_characters=40,
    image_pixels=5,
    documents=1,
    document_characters=4,
    name_characters=5,
    id_characters=3,
    title_characters=5,
    stop_characters=3,
    output_tokens=9,
    labels=2,
    label_name_characters=4,
    label_value_characters=6,
)
IMAGE = ImagePart(InlineData("image/png", "abcd"))
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 3, 2)
LARGE = ImagePart(InlineData("image/png", base64.b64encode(PNG).decode()))
DOCUMENT = DocumentPart(InlineData("text/plain", "abcd"), "title")
CALL = ToolCallPart("123", "name5", "{}")
RESULT = ToolResultPart("123", (TextPart("x"),))


def said(*parts: Part, at: str = "messages[0]", role: Role = Role.USER) -> Message:
    return Message(role, parts or (TextPart("x"),), origin=at)


def asking(*messages: Message, **fields: Any) -> CompletionRequest:
    return CompletionRequest(messages or (said(),), **fields)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def many(count: int) -> dict[str, Any]:
    return {str(number): {} for number in range(count)}


def schema_answer(schema: dict[str, Any]) -> OutputFormat:
    return OutputFormat(OutputKind.JSON_SCHEMA, "name5", schema)


@pytest.mark.parametrize(
    "request_",
    [
        asking(said(), said(at="messages[1]")),
        asking(said(IMAGE, DOCUMENT)),
        asking(said(CALL, role=Role.ASSISTANT), said(RESULT)),
        asking(labels={"team": "search", "": ""}),
        asking(system="12345", model="12345", max_output_tokens=9),
        asking(sampling=Sampling(stop=("123", "456"))),
        asking(tools=(Tool("a"), Tool("b", parameters=nested(3)))),
        asking(output_format=schema_answer(nested(3))),
        # A URL has no size.
        asking(said(ImagePart(UrlSource("https://example.org/long.png")))),
    ],
)
def test_what_is_just_within_is_let_through(request_: CompletionRequest) -> None:
    check_sizes(request_, SMALL)


TWICE = {"": [{}, {}], "$ref": "#/", "$dynamicRef": "#/"}

SHAPES: list[tuple[CompletionRequest, str, str]] = [
    (asking(said(), said(), said()), "messages", "2 messages"),
    (asking(said(*[TextPart("x")] * 3)), "messages[0]", "2 parts"),
    (asking(said(ToolResultPart("1", (TextPart("x"),) * 2))), "messages[0]", "2 parts"),
    (asking(said(*[TextPart("x")] * 2), said(*[TextPart("x")] * 2)), "messages", "3 parts"),
    (asking(said(IMAGE), said(IMAGE, at="messages[1]")), "messages[1]", "1 images"),
    (asking(said(ToolResultPart("1", (IMAGE,))), said(IMAGE, at="m")), "messages[1]", "1 images"),
    (asking(said(DOCUMENT, DOCUMENT)), "messages[0]", "1 documents"),
    (asking(said(dataclasses.replace(DOCUMENT, title="longer"))), "messages[0]", "5 characters"),
    (asking(said(SearchResultPart("s", "longer", (TextPart("x"),)))), "messages[0]", "5 char"),
    (asking(said(SearchResultPart("s", "t", (TextPart("x"),) * 2))), "messages[0]", "2 parts"),
    (
        asking(said(DocumentPart(Pieces((IMAGE,)))), said(IMAGE, at="m")),
        "messages[1]",
        "1 images",
    ),
    (asking(said(dataclasses.replace(CALL, id="1234"))), "messages[0]", "3 characters"),
    (asking(said(dataclasses.replace(CALL, name="name-6"))), "messages[0]", "5 characters"),
    (asking(said(ToolResultPart("1234"))), "messages[0]", "3 characters"),
    (asking(model="longer"), "model", "5 characters"),
    (asking(labels={"a": "", "b": "", "c": ""}), "labels", "2 labels"),
    (asking(labels={"names": ""}), "labels", "4 characters"),
    (asking(labels={"a": "value 7"}), "labels.a", "6 characters"),
    (asking(max_output_tokens=10), "max_output_tokens", "9 tokens"),
    (asking(sampling=Sampling(stop=("1234",))), "sampling.stop", "3 characters"),
    (asking(tools=(Tool("a"), Tool("b"), Tool("c"))), "tools", "2 tools"),
    (asking(tools=(Tool("a", parameters=nested(4)),)), "tools", "3 levels"),
    (asking(tools=(Tool("a", parameters=many(2)),) * 2), "tools", "5 subschemas"),
    (asking(tools=(Tool("a", parameters=many(7)),)), "tools", "7 subschemas"),
    (asking(output_format=schema_answer(many(7))), "output_format", "7 subschemas"),
    (asking(output_format=schema_answer({"a": [True] * 7})), "output_format", "7 subschemas"),
    (asking(output_format=schema_answer({"enum": [1] * 11})), "output_format", "12 values"),
    (asking(output_format=schema_answer({"a": [{"$ref": "#/x"}] * 3})), "output_format", "2 ref"),
    (
        asking(output_format=schema_answer(TWICE)),
        "output_format",
        "6 subschemas with",
    ),
    (asking(output_format=schema_answer({"a": "x" * 31})), "output_format", "30 characters"),
    (asking(output_format=schema_answer({"pattern": "abcd"})), "output_format", "3 characters"),
    (
        asking(output_format=schema_answer({"patternProperties": {"abcd": 1}})),
        "output_format",
        "3 characters",
    ),
    (asking(output_format=OutputFormat(name="longer")), "output_format", "5 characters"),
    (asking(output_format=schema_answer(nested(4))), "output_format", "3 levels"),
]


@pytest.mark.parametrize(("request_", "field", "bound"), SHAPES)
def test_what_has_too_much_of_a_thing(request_: CompletionRequest, field: str, bound: str) -> None:
    with pytest.raises(InvalidRequestError, match=bound) as caught:
        check_sizes(request_, SMALL)
    assert caught.value.field == field


SIZES: list[tuple[CompletionRequest, str, int]] = [
    (asking(system="123456"), "system", 5),
    (asking(said(ImagePart(InlineData("image/png", "a" * 41)))), "messages[0]", 40),
    (asking(said(LARGE)), "messages[0]", 5),
    (asking(said(ToolResultPart("1", (LARGE,)))), "messages[0]", 5),
    (asking(said(DocumentPart(InlineData("text/plain", "abcde")))), "messages[0]", 4),
    (asking(tools=(Tool("a", parameters={"a": "x" * 50}),)), "tools", 50),
    (asking(tools=(Tool("a", "x" * 40), Tool("b", "x" * 40))), "tools", 60),
    (asking(output_format=schema_answer({"a": "x" * 50})), "output_format", 50),
]


@pytest.mark.parametrize(("request_", "field", "bound"), SIZES)
def test_what_is_too_large(request_: CompletionRequest, field: str, bound: int) -> None:
    with pytest.raises(TooLargeError, match=f"at most {bound} (characters|pixels)") as caught:
        check_sizes(request_, SMALL)
    assert caught.value.field == field


def test_every_bound_is_kept() -> None:
    """Every bound must be checked."""
    at_the_apis = {"request_bytes", "json_levels", "json_values"}
    wide = Bounds()
    kept: set[str] = set()
    for request, *_ in [*SHAPES, *SIZES]:
        for bound in dataclasses.fields(Bounds):
            narrow = dataclasses.replace(wide, **{bound.name: getattr(SMALL, bound.name)})
            try:
                check_sizes(request, narrow)
            except BridgeError:
                kept.add(bound.name)
    assert kept == {bound.name for bound in dataclasses.fields(Bounds)} - at_the_apis


@pytest.mark.parametrize(
    "text", ["", "{", "nul", '{"a": NaN}', "[Infinity]", "[1e999]", "1" * 5000]
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(NotJsonError):
        parse_strict(text, levels=9)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("[" * 4, 3),
        ("[" * 10_000_000, 3),
        ('{"a": [{"b": []}]}', 3),
        # Brackets in strings do not count.
        ('[["]]"],[["x"]]]', 2),
        ('[["\\"]]"],[["x"]]]', 2),
        ('[[["never closed', 2),
    ],
)
def test_json_of_too_many_levels(text: str, levels: int) -> None:
    with pytest.raises(TooNestedError):
        parse_strict(text, levels=levels)


def test_brackets_in_texts_are_no_levels() -> None:
    value = {"a": ["[" * 50, '{"' * 50, "\\" * 7 + '"[[[']}
    assert parse_strict(json.dumps(value), levels=2) == value


def test_a_text_that_never_ends_costs_no_more_than_it_is_long() -> None:
    # One pass: with a second one from each quote this would take hours.
    with pytest.raises(NotJsonError):
        parse_strict('{"' + '\\"[' * 1_000_000, levels=3)


def test_json_of_too_many_values() -> None:
    assert parse_strict("[1,2,3]", levels=2, values=4) == [1, 2, 3]
    with pytest.raises(TooNestedError):
        parse_strict("[1,2,3]", levels=2, values=2)
    with pytest.raises(TooNestedError):
        parse_strict("[" + "[]," * 2_000_000 + "[]]", levels=2, values=BOUNDS.json_values)
    # Commas in strings do not count.
    assert parse_strict('["' + "," * 100 + '"]', levels=2, values=3)


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"a": NaN}'])
def test_arguments_that_are_no_object(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="JSON text of an object") as caught:
        json_object(text, "here.arguments")
    assert caught.value.field == "here.arguments"


def test_arguments_of_too_many_levels() -> None:
    with pytest.raises(InvalidRequestError, match=f"{BOUNDS.json_levels} levels"):
        json_object(json.dumps(nested(BOUNDS.json_levels + 1)), "here.arguments")
    assert json_object(json.dumps(nested(BOUNDS.json_levels)), "here.arguments")
