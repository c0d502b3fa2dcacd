"""What the description of a body allows is what is served, and what it refuses is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.contract import BridgeError, CompletionRequest
from bridge.core.validation import validate
from bridge.http_server.app import create_app
from bridge.http_server.context import CallOptions
from bridge.http_server.dialects import all_dialects
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.completions.decode import decode_text_completion
from bridge.http_server.openai.responses.decode import Past, decode_responses, parse_responses
from tests.support.fakes import FakeService

Json: TypeAlias = dict[str, Any]
Decode: TypeAlias = Callable[[Json], CompletionRequest]

ABSENT: Final = object()
CALL: Final = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
HI: Final = {"role": "user", "content": "hi"}


@cache
def schemas() -> Mapping[str, Any]:
    described: Mapping[str, Any] = create_app(FakeService(), all_dialects(), version="0").openapi()
    return described


def test_an_app_is_described_only_on_request() -> None:
    app = create_app(FakeService(), all_dialects(), version="0")
    assert app.openapi_schema is None
    assert app.openapi() is app.openapi()


def allowed(model: str, body: Json) -> bool:
    schema = {**schemas(), "$ref": f"#/components/schemas/{model}"}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(body))


def served(decode: Decode, body: Json) -> bool:
    try:
        validate(decode(body))
    except BridgeError:
        return False
    return True


def chat(body: Json) -> CompletionRequest:
    return decode_chat(body, CallOptions()).request


def responses(body: Json) -> CompletionRequest:
    wire = parse_responses(body)
    return decode_responses(wire, body, CallOptions(), Past(), "1", keeps=True).request


def completions(body: Json) -> CompletionRequest:
    return decode_text_completion(body, CallOptions()).request


def having(body: Json, **fields: Any) -> Json:
    return {**body, **{name: value for name, value in fields.items() if value is not ABSENT}}


texts = st.sampled_from(["x", " x\n", "", " ", "\n"])
wrong = st.sampled_from([ABSENT, None, 5, True, {}, ["x", 5]])
parts = st.lists(
    st.sampled_from([{"type": "text", "text": "x"}, {"type": "text"}, {"text": "x"}, {}, "x"]),
    max_size=2,
)
contents = st.one_of(texts, wrong, parts)
FORMATS: Final[list[Any]] = [
    None,
    {},
    {"type": "text"},
    {"type": "xml"},
    {"type": "json_object"},
    {"type": "json_schema"},
    {"type": "json_schema", "json_schema": None},
    {"type": "json_schema", "json_schema": {}},
    {"type": "json_schema", "json_schema": {"schema": None}},
    {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
    {"type": "json_schema", "schema": None},
    {"type": "json_schema", "schema": {"type": "object"}},
]
TOOLS: Final[list[Any]] = [
    {"type": "function", "function": {"name": "look"}},
    {"function": {"name": "look"}},
    {"type": None, "function": {"name": "look"}},
    {"type": "function"},
    {"type": "function", "function": None},
    {"type": "custom", "function": {"name": "look"}},
    {"type": "function", "function": {}},
    {"type": "function", "function": {"name": "a b"}},
]
CHOICES: Final[list[Any]] = [
    None,
    "auto",
    "always",
    {"type": "function", "function": {"name": "look"}},
    {"type": "function"},
    {"type": "custom"},
    {"type": "allowed_tools"},
    {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
    {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "look"}}]},
    },
]
REFUSED: Final[dict[str, list[Any]]] = {
    "n": [1, 2, 1.0],
    "logprobs": [False, True],
    "top_logprobs": [0, 1],
    "modalities": [[], ["text"], ["audio"]],
    "audio": [{"voice": "a"}],
    "web_search_options": [{}],
}


@st.composite
def chats(draw: st.DrawFn) -> Json:
    """A conversation in which one thing may be anything."""
    asked = having({"role": draw(st.sampled_from(["system", "user", "robot"]))})
    answer: Json = {"role": "assistant", "tool_calls": [CALL]}
    result: Json = {"role": "tool", "tool_call_id": "c1", "content": "seen"}
    body: Json = {"tools": [TOOLS[0]]}
    asked["content"] = "hi"
    match draw(st.sampled_from(["asked", "answer", "result", "call", "body", "tool", "refused"])):
        case "asked":
            asked = having({"role": asked["role"]}, content=draw(contents))
        case "answer":
            answer = having(answer, content=draw(contents))
        case "result":
            id = draw(st.sampled_from(["c1", ABSENT, None, 5]))
            result = having({"role": "tool"}, tool_call_id=id, content=draw(contents))
        case "call":
            call = {"id": "c1", "function": CALL["function"]}
            call = having(call, type=draw(st.sampled_from([ABSENT, None, "function", "custom"])))
            call["function"] = draw(st.sampled_from([CALL["function"], None, {"name": "look"}]))
            answer = {"role": "assistant", "tool_calls": [call]}
        case "body":
            body["response_format"] = draw(st.sampled_from(FORMATS))
            body["tool_choice"] = draw(st.sampled_from(CHOICES))
        case "tool":
            body["tools"] = [draw(st.sampled_from(TOOLS))]
        case "refused":
            name = draw(st.sampled_from(sorted(REFUSED)))
            body[name] = draw(st.sampled_from([None, *REFUSED[name]]))
    return {"messages": [HI, asked, HI, answer, result, HI], **body}


@st.composite
def response_bodies(draw: st.DrawFn) -> Json:
    body: Json = {"input": "hi"}
    match draw(st.sampled_from(["input", "item", "format", "refused"])):
        case "input":
            body = having({}, input=draw(st.one_of(texts, wrong)))
        case "item":
            output = draw(st.one_of(texts, wrong))
            result = having({"type": "function_call_output", "call_id": "c1"}, output=output)
            call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
            other = draw(st.sampled_from(OTHER_ITEMS))
            body = {"input": [call, result, HI, *other]}
        case "format":
            body["text"] = {"format": draw(st.sampled_from(FORMATS))}
        case "refused":
            name = draw(st.sampled_from(["background", "prompt", "top_logprobs"]))
            body[name] = draw(st.sampled_from([None, False, True, 0, 1, {"id": "a"}]))
    return body


OTHER_ITEMS: Final[list[list[Json]]] = [
    [],
    [{"id": "msg_1", "role": "user", "content": "hi"}],
    [{"type": None, **HI}],
    [{"type": "computer_call"}],
    [{"type": "local_shell_call"}],
    [{"type": "reasoning", "id": "rs_1", "summary": []}, HI],
    [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
]
prompts = st.one_of(texts, wrong, st.lists(st.one_of(texts, st.just(5)), max_size=2))
ENDPOINTS: Final[list[tuple[str, Decode, st.SearchStrategy[Json]]]] = [
    ("ChatCompletionRequest", chat, chats()),
    ("ResponsesRequest", responses, response_bodies()),
    ("TextCompletionRequest", completions, prompts.map(lambda said: having({}, prompt=said))),
]


@pytest.mark.parametrize(
    ("model", "decode", "bodies"), ENDPOINTS, ids=[model for model, *_ in ENDPOINTS]
)
def test_a_body_is_served_exactly_where_its_description_allows_it(
    model: str, decode: Decode, bodies: st.SearchStrategy[Json]
) -> None:
    found = {True: 0, False: 0}

    @settings(max_examples=300, deadline=None, database=None)
    @given(bodies)
    def agree(body: Json) -> None:
        is_served = served(decode, copy.deepcopy(body))
        found[is_served] += 1
        assert allowed(model, body) is is_served, body

    agree()
    assert all(found.values())


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("ResponsesRequest", {"input": None}),
        ("ResponsesRequest", {"input": ""}),
        ("ResponsesRequest", {}),
        ("TextCompletionRequest", {"prompt": ""}),
        ("TextCompletionRequest", {"prompt": ["a", "b"]}),
        ("ChatCompletionRequest", {"messages": [HI, {"role": "tool", "tool_call_id": "c"}]}),
        ("ChatCompletionRequest", {"messages": [HI, {"role": "user"}]}),
        ("ChatCompletionRequest", {"messages": [HI, {"role": "tool", "content": "x"}]}),
        ("ChatCompletionRequest", {"messages": [HI], "n": 2}),
    ],
)
def test_what_is_refused_is_not_described_as_allowed(model: str, body: Json) -> None:
    assert not allowed(model, body)
