"""What becomes of every parameter, by the table."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from bridge.core.contract.errors import InvalidRequestError, UnsupportedError
from bridge.core.contract.request import (
    CompletionRequest,
    Effort,
    OutputFormat,
    OutputKind,
    Sampling,
)
from bridge.core.validation import validate
from bridge.http_server.context import CallOptions, ReasoningDisplay
from bridge.http_server.openai.chat.decode import decode_chat
from bridge.http_server.openai.chat.wire import ChatCompletionRequest
from bridge.http_server.openai.completions.wire import TextCompletionRequest
from bridge.http_server.openai.shared.call import EFFORTS, Call
from bridge.http_server.wire import Treatment, rules_of

USER = {"role": "user", "content": "hi"}


def decode(options: CallOptions | None = None, **parameters: Any) -> Call:
    call = decode_chat({"messages": [USER], **parameters}, options or CallOptions())
    validate(call.request)
    return call


def request(**parameters: Any) -> CompletionRequest:
    return CallOptions().applied_to(decode(**parameters).request)


def test_the_table_knows_every_parameter_of_the_client() -> None:
    of_client = set(chat_create_params.CompletionCreateParamsBase.__annotations__)

    assert set(rules_of(ChatCompletionRequest)) == of_client | {"stream", "include_reasoning"}


def test_the_legacy_table_knows_every_parameter_of_the_client() -> None:
    of_client = set(completion_create_params.CompletionCreateParamsBase.__annotations__)

    assert set(rules_of(TextCompletionRequest)) == of_client | {"stream"}


SILENT: list[tuple[str, Any]] = [
    ("store", True),
    ("user", "u1"),
    ("safety_identifier", "s"),
    ("service_tier", "priority"),
    ("prompt_cache_key", "k"),
    ("prompt_cache_options", {"mode": "explicit"}),
    ("prompt_cache_retention", "24h"),
    ("metadata", {"a": "b"}),
    ("n", 1),
    ("n", 1.0),
    ("logprobs", False),
    ("top_logprobs", 0),
    ("modalities", ["text"]),
    ("modalities", []),
    ("logit_bias", {}),
    ("frequency_penalty", 0),
    ("presence_penalty", 0.0),
    ("verbosity", "medium"),
    ("stop", ""),
    ("stop", []),
    ("tools", []),
    ("tool_choice", "auto"),
    ("tool_choice", "none"),
    ("parallel_tool_calls", False),
    ("temperature", 1),
    ("made_up", None),
    *((name, None) for name in ChatCompletionRequest.model_fields if name != "messages"),
]

NAMED: list[tuple[str, Any, str]] = [
    ("seed", 0, "seed"),
    ("seed", 7, "seed"),
    ("logit_bias", {"50256": -100}, "logit_bias"),
    ("frequency_penalty", 0.5, "frequency_penalty"),
    ("presence_penalty", -1, "presence_penalty"),
    ("verbosity", "low", "verbosity"),
    ("logprobs", True, "logprobs"),
    ("top_logprobs", 3, "top_logprobs"),
    ("prediction", {"type": "content", "content": "x"}, "prediction"),
    ("moderation", {"model": "omni"}, "moderation"),
    ("moderation", {"model": "omni", "policy": {"input": {"mode": "score"}}}, "moderation"),
    ("temperature", 1.5, "temperature"),
    ("stream_options", {"include_usage": True}, "stream_options"),
    ("top_k", 40, "top_k"),
    ("thinking", {"type": "enabled"}, "thinking"),
    ("chat_template_kwargs", {}, "chat_template_kwargs"),
]

REFUSED: list[tuple[str, Any, str]] = [
    ("n", 2, "n"),
    ("modalities", ["text", "audio"], "modalities"),
    ("audio", {"voice": "alloy", "format": "mp3"}, "audio"),
    ("web_search_options", {}, "web_search_options"),
    (
        "moderation",
        {"model": "m", "policy": {"output": {"mode": "block"}}},
        "moderation.policy.output.mode",
    ),
    (
        "moderation",
        {"model": "m", "policy": {"input": {"mode": "block"}}},
        "moderation.policy.input.mode",
    ),
]


@pytest.mark.parametrize(("name", "value"), SILENT)
@pytest.mark.parametrize("strict", [False, True])
def test_what_changes_nothing_passes_without_a_word(name: str, value: object, strict: bool) -> None:
    call = decode(CallOptions(strict=strict), **{name: value})

    assert call.request.ignored == ()


@pytest.mark.parametrize(
    ("said", "included"), [(None, (True, True)), (True, (True, False)), (False, (False, False))]
)
def test_the_body_decides_before_the_servers_default_about_thinking(
    said: bool | None, included: tuple[bool, bool]
) -> None:
    options = CallOptions(reasoning=ReasoningDisplay.CHAT_DEFAULT)
    asked = decode(options, include_reasoning=said).request
    assert (asked.include_thinking, asked.thinking_by_default) == included


@pytest.mark.parametrize(("name", "value", "said"), NAMED)
def test_what_has_no_effect_is_named(name: str, value: object, said: str) -> None:
    assert request(**{name: value}).ignored == (said,)


@pytest.mark.parametrize(("name", "value", "said"), NAMED)
def test_what_has_no_effect_is_an_error_in_strict_mode(name: str, value: object, said: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        decode(CallOptions(strict=True), **{name: value})

    assert (caught.value.field, caught.value.reason) == (said, "UNSUPPORTED_PARAMETER")


@pytest.mark.parametrize(("name", "value", "field"), REFUSED)
def test_what_cannot_be_done_is_refused(name: str, value: object, field: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        decode(CallOptions(), **{name: value})

    assert (caught.value.field, caught.value.reason) == (field, "UNSUPPORTED_VALUE")


def test_every_parameter_has_a_row_in_the_tests_of_its_treatment() -> None:
    by_treatment = {
        Treatment.SILENT: {name for name, _ in SILENT},
        Treatment.NAMED: {name for name, *_ in NAMED},
        Treatment.REFUSED: {name for name, *_ in REFUSED},
        Treatment.HONOURED: {name for name, *_ in HONOURED} | {"messages"},
    }
    for name, rule in rules_of(ChatCompletionRequest).items():
        assert name in by_treatment[rule.treatment], name


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"name": "f"}

HONOURED: list[tuple[str, Any, str, Any]] = [
    ("model", "opus", "model", "opus"),
    ("model", "", "model", None),
    ("max_completion_tokens", 5, "max_output_tokens", 5),
    ("max_completion_tokens", 5.0, "max_output_tokens", 5),
    ("max_tokens", 6, "max_output_tokens", 6),
    ("temperature", 0, "sampling", Sampling(temperature=0)),
    ("temperature", 1.5, "sampling", Sampling(temperature=1.0)),
    ("temperature", 2, "sampling", Sampling(temperature=1.0)),
    ("top_p", 0.5, "sampling", Sampling(top_p=0.5)),
    ("stop", "END", "sampling", Sampling(stop=("END",))),
    ("stop", ["a", "", "\n"], "sampling", Sampling(stop=("a", "\n"))),
    ("response_format", {"type": "text"}, "output_format", OutputFormat()),
    (
        "response_format",
        {"type": "json_object"},
        "output_format",
        OutputFormat(OutputKind.JSON_OBJECT),
    ),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
        "output_format",
        OutputFormat(OutputKind.JSON_SCHEMA, "x", SCHEMA),
    ),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"description": "d", "schema": SCHEMA}},
        "output_format",
        OutputFormat(OutputKind.JSON_SCHEMA, "", {"description": "d", **SCHEMA}),
    ),
    ("include_reasoning", True, "include_thinking", True),
    ("include_reasoning", False, "include_thinking", False),
    *(("reasoning_effort", word, "effort", effort) for word, effort in EFFORTS.items()),
    # These have tests of their own below or in test_decode_tools.
    ("stream", True, "api", "http"),
    ("stream_options", {"include_usage": True}, "api", "http"),
    ("metadata", {"a": "b"}, "labels", {"a": "b"}),
    ("tools", [{"type": "function", "function": FUNCTION}], "api", "http"),
    ("tool_choice", "auto", "api", "http"),
    ("parallel_tool_calls", True, "api", "http"),
    ("functions", [FUNCTION], "api", "http"),
    ("function_call", None, "api", "http"),
]


@pytest.mark.parametrize(("name", "value", "attribute", "decoded"), HONOURED)
def test_what_is_honoured_reaches_the_core(
    name: str, value: object, attribute: str, decoded: object
) -> None:
    assert getattr(request(**{name: value}), attribute) == decoded


def test_efforts_are_those_of_the_client() -> None:
    assert EFFORTS["minimal"] is Effort.NONE
    assert set(EFFORTS) == {"none", "minimal", "low", "medium", "high", "xhigh", "max"}


def test_the_newer_limit_of_tokens_wins() -> None:
    assert request(max_tokens=5, max_completion_tokens=9).max_output_tokens == 9


def test_what_concerns_the_reply_is_kept_beside_the_request() -> None:
    call = decode(stream=True, stream_options={"include_usage": True}, metadata={"a": "b"})

    assert (call.stream, call.include_usage, call.metadata) == (True, True, {"a": "b"})


def test_options_of_a_stream_have_effect_with_a_stream() -> None:
    options = {"include_usage": True, "include_obfuscation": True}
    call = decode(CallOptions(strict=True), stream=True, stream_options=options)

    assert (call.stream, call.include_usage) == (True, True)


def test_of_two_limits_of_tokens_the_one_that_does_not_count_is_named() -> None:
    assert request(max_tokens=5, max_completion_tokens=9).ignored == ("max_tokens",)
    assert request(max_tokens=9, max_completion_tokens=9).ignored == ()


def test_the_options_of_the_call_reach_the_core() -> None:
    asked = ReasoningDisplay.ASKED
    options = CallOptions("req_1", caller="key", strict=True, reasoning=asked, timeout=9.5)

    decoded = options.applied_to(decode(options).request)

    assert decoded.request_id == "req_1"
    assert decoded.caller == "key"
    assert decoded.strict
    assert decoded.include_thinking
    assert decoded.timeout == 9.5
    assert decoded.api == "http"


def test_ignored_names_come_in_the_callers_order_and_once() -> None:
    names = request(top_k=1, seed=2, min_p=3).ignored

    assert names == ("top_k", "seed", "min_p")


MISSING, TYPE, VALUE = "MISSING_REQUIRED_PARAMETER", "INVALID_TYPE", "INVALID_VALUE"


@pytest.mark.parametrize(
    ("parameters", "field", "reason"),
    [
        ({"messages": None}, "messages", MISSING),
        ({"messages": "hi"}, "messages", TYPE),
        ({"messages": []}, "messages", VALUE),
        ({"messages": [{"content": "x"}]}, "messages[0].role", MISSING),
        ({"messages": ["x"]}, "messages[0]", TYPE),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", VALUE),
        ({"messages": [USER, {"role": "user", "content": 5}]}, "messages[1].content", TYPE),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]", TYPE),
        (
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "messages[0].content[0].type",
            MISSING,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "messages[0].content[0].type",
            VALUE,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            MISSING,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "messages[0].content[0].text",
            TYPE,
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].image_url.url",
            MISSING,
        ),
        ({"model": 5}, "model", TYPE),
        ({"stream": "yes"}, "stream", TYPE),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", TYPE),
        ({"max_tokens": 0}, "max_tokens", VALUE),
        ({"max_completion_tokens": 0}, "max_completion_tokens", VALUE),
        ({"max_tokens": 1.5}, "max_tokens", TYPE),
        ({"max_tokens": "5"}, "max_tokens", TYPE),
        ({"temperature": 2.1}, "temperature", VALUE),
        ({"temperature": -0.1}, "temperature", VALUE),
        ({"temperature": "hot"}, "temperature", TYPE),
        ({"temperature": True}, "temperature", TYPE),
        ({"top_p": 1.1}, "top_p", VALUE),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", VALUE),
        ({"stop": [1]}, "stop[0]", TYPE),
        ({"n": 0}, "n", VALUE),
        ({"reasoning_effort": "extreme"}, "reasoning_effort", VALUE),
        ({"verbosity": "loud"}, "verbosity", VALUE),
        ({"seed": "x"}, "seed", TYPE),
        ({"metadata": {"a": 1}}, "metadata.a", TYPE),
        ({"response_format": "json"}, "response_format", TYPE),
        ({"response_format": {"type": "xml"}}, "response_format.type", VALUE),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", MISSING),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
            MISSING,
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
            "response_format.json_schema.schema",
            TYPE,
        ),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", MISSING),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
            VALUE,
        ),
        ({"tool_choice": "any"}, "tool_choice", VALUE),
        ({"tool_choice": {"type": "any"}}, "tool_choice.type", VALUE),
    ],
)
def test_a_wrong_value_names_its_field(parameters: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(**parameters)

    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"messages": [{"role": "user", "content": 5}]},
            "Invalid type for 'messages[0].content': expected a string or an array.",
        ),
        (
            {"temperature": 3},
            "Invalid value for 'temperature': expected at most 2.",
        ),
        (
            {"stop": list("abcde")},
            "Invalid value for 'stop': expected a string or an array of at most 4.",
        ),
        (
            {"messages": []},
            "Invalid value for 'messages': expected a non-empty array.",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_the_allowed_ones(
    parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(**parameters)

    assert caught.value.message == message


@pytest.mark.parametrize("body", [None, [], "x", 5, True])
def test_a_body_must_be_an_object(body: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_chat(body, CallOptions())

    assert (caught.value.field, caught.value.reason) == (None, "INVALID_TYPE")


def test_missing_messages_are_named() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_chat({"model": "opus"}, CallOptions())

    assert (caught.value.field, caught.value.reason) == ("messages", MISSING)


def test_a_request_for_the_responses_api_is_refused_with_the_right_url() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_chat({"model": "opus", "input": "hi"}, CallOptions())

    assert caught.value.field == "messages"
    assert "/v1/responses" in caught.value.message
