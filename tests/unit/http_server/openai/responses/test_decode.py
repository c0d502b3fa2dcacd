"""Responses requests: every parameter, every kind of item, every form of a tool."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import response_create_params

from bridge.core.contract.errors import InvalidRequestError, UnsupportedError
from bridge.core.contract.request import (
    CompletionRequest,
    DocumentPart,
    Effort,
    ImagePart,
    InlineData,
    Message,
    OutputFormat,
    OutputKind,
    Part,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
    UrlSource,
)
from bridge.core.validation import validate
from bridge.http_server.context import CallOptions, ReasoningDisplay
from bridge.http_server.dialect import JsonDict
from bridge.http_server.openai.responses.decode import (
    Past,
    ResponseCall,
    decode_responses,
    parse_responses,
)
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.openai.responses.wire_items import references_of
from bridge.http_server.wire import Treatment, rules_of
from tests.support.harness import assistant, user

PIXEL = base64.b64encode(b"pixel").decode()
PDF = base64.b64encode(b"%PDF-1.7 text").decode()
ZIP = "data:application/zip;base64,UEsDBA=="
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
HI = {"role": "user", "content": "hi"}
LOOK = {"type": "function", "name": "look"}
LISTEN = {"type": "function", "name": "listen", "description": "Listen.", "parameters": SCHEMA}


def decode(
    options: CallOptions | None = None,
    past: Past | None = None,
    *,
    keeps: bool = True,
    **parameters: Any,
) -> ResponseCall:
    body = {"input": "hi", **parameters}
    wire = parse_responses(body)
    return decode_responses(
        wire, body, options or CallOptions(), past or Past(), "00ab", keeps=keeps
    )


def checked(past: Past | None = None, **parameters: Any) -> None:
    """Decode a request, and have the core look at it as it does before it answers."""
    validate(decode(past=past, **parameters).request)


def request(**parameters: Any) -> CompletionRequest:
    return decode(**parameters).request


def messages(*items: Any, past: Past | None = None) -> tuple[Message, ...]:
    return decode(past=past, input=list(items)).request.messages


def test_the_table_knows_every_parameter_of_the_client() -> None:
    of_client = set(response_create_params.ResponseCreateParamsBase.__annotations__)

    assert set(rules_of(ResponsesRequest)) == of_client | {"stream", "client_metadata"}


# Parameters

SILENT: list[tuple[str, Any]] = [
    ("user", "u1"),
    ("safety_identifier", "s"),
    ("service_tier", "priority"),
    ("prompt_cache_key", "k"),
    ("prompt_cache_options", {"mode": "explicit"}),
    ("prompt_cache_retention", "24h"),
    ("max_tool_calls", 3),
    ("include", []),
    ("include", ["reasoning.encrypted_content", "file_search_call.results"]),
    ("background", False),
    ("background", True),
    ("top_logprobs", 0),
    ("truncation", "disabled"),
    ("context_management", []),
    ("text", {"format": {"type": "text"}, "verbosity": "medium"}),
    ("reasoning", {}),
    ("reasoning", {"effort": None, "context": "auto", "mode": "standard"}),
    ("tools", []),
    ("tool_choice", "auto"),
    ("tool_choice", "none"),
    ("parallel_tool_calls", False),
    ("store", False),
    ("store", True),
    ("temperature", 1),
    ("made_up", None),
    *((name, None) for name in ResponsesRequest.model_fields if name != "input"),
]

NAMED: list[tuple[str, Any, str]] = [
    ("truncation", "auto", "truncation"),
    ("top_logprobs", 3, "top_logprobs"),
    ("include", ["message.output_text.logprobs"], "include.message.output_text.logprobs"),
    ("context_management", [{"type": "compaction"}], "context_management"),
    ("background_options", {"completion_window": "2h"}, "background_options"),
    ("image", {"context_compression": "auto"}, "image"),
    ("access_programs", {"cyber": "standard"}, "access_programs"),
    ("moderation", {"model": "omni"}, "moderation"),
    ("temperature", 1.5, "temperature"),
    ("text", {"verbosity": "low"}, "text.verbosity"),
    ("text", {"tone": "dry"}, "text.tone"),
    ("reasoning", {"context": "all_turns"}, "reasoning.context"),
    ("reasoning", {"mode": "pro"}, "reasoning.mode"),
    ("reasoning", {"budget": 1}, "reasoning.budget"),
    ("include", ["made.up"], "include.made.up"),
    ("stream_options", {"include_obfuscation": True}, "stream_options"),
    ("tools", [{**LOOK, "strict": True}], "tools.strict"),
    *(
        ("tools", [LOOK, {"type": kind, "own": 1}], f"tools.{kind}")
        for kind in (
            *("web_search", "web_search_preview", "file_search", "code_interpreter", "mcp"),
            *("computer", "computer_use_preview", "image_generation", "local_shell", "shell"),
            *("apply_patch", "made_up"),
        )
    ),
    *(
        ("input", [{"type": kind, "id": "x", "output": {}}, HI], f"input.{kind}")
        for kind in (
            *("web_search_call", "file_search_call", "computer_call", "code_interpreter_call"),
            *("image_generation_call", "mcp_call", "mcp_list_tools", "mcp_approval_request"),
        )
    ),
    (
        "input",
        [{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}, HI],
        "input.encrypted_content",
    ),
    ("top_k", 40, "top_k"),
    ("input", [{"role": "user", "content": "hi", "name": "bob"}], "input.name"),
]

REFUSED: list[tuple[str, Any, str]] = [
    ("prompt", {"id": "pmpt_1"}, "prompt"),
    (
        "moderation",
        {"model": "m", "policy": {"output": {"mode": "block"}}},
        "moderation.policy.output.mode",
    ),
    ("tool_choice", {"type": "web_search"}, "tool_choice.type"),
    ("tool_choice", {"type": "mcp", "server_label": "x"}, "tool_choice.type"),
    *(
        ("input", [{"type": kind, "id": "x", "output": {}}], "input[0].type")
        for kind in ("computer_call_output", "local_shell_call", "context_compaction", "made_up")
    ),
]

HONOURED: list[tuple[str, Any, str, Any]] = [
    ("input", "hello", "messages", (user("hello"),)),
    ("model", "opus", "model", "opus"),
    ("model", "", "model", None),
    ("instructions", "Be brief.", "system", "Be brief."),
    ("instructions", "", "system", None),
    ("temperature", 0.5, "sampling", Sampling(0.5)),
    ("top_p", 0.5, "sampling", Sampling(None, 0.5)),
    ("max_output_tokens", 5, "max_output_tokens", 5),
    ("metadata", {"a": "b"}, "labels", {"a": "b"}),
    (
        "text",
        {"format": {"type": "json_object"}},
        "output_format",
        OutputFormat(OutputKind.JSON_OBJECT),
    ),
    (
        "text",
        {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
        "output_format",
        OutputFormat(OutputKind.JSON_SCHEMA, "n", SCHEMA),
    ),
    (
        "text",
        {"format": {"type": "json_schema", "schema": SCHEMA, "description": "D"}},
        "output_format",
        OutputFormat(OutputKind.JSON_SCHEMA, "", {"description": "D", **SCHEMA}),
    ),
    ("reasoning", {"effort": "minimal"}, "effort", Effort.NONE),
    ("reasoning", {"effort": "xhigh"}, "effort", Effort.XHIGH),
    ("reasoning", {"effort": "low"}, "include_thinking", False),
    ("reasoning", {"summary": "auto"}, "include_thinking", True),
    ("reasoning", {"generate_summary": "concise"}, "include_thinking", True),
    ("tools", [LOOK, LISTEN], "tools", (Tool("look"), Tool("listen", "Listen.", SCHEMA))),
    ("tools", [{"name": "look"}], "tools", (Tool("look"),)),
    ("tool_choice", "none", "tool_choice", ToolChoice(ToolMode.NONE)),
    ("parallel_tool_calls", False, "tool_choice", ToolChoice(parallel=False)),
]

ELSEWHERE = {
    "previous_response_id",  # tests/unit/http_server/openai/responses/test_routes.py
    "background",
    "conversation",  # tests/unit/http_server/openai/responses/conversations/test_routes.py
    "stream",
    "stream_options",
    "include",
    "store",
}


@pytest.mark.parametrize(("name", "value"), SILENT)
@pytest.mark.parametrize("strict", [False, True])
def test_what_changes_nothing_passes_without_a_word(name: str, value: Any, strict: bool) -> None:
    assert decode(CallOptions(strict=strict), **{name: value}).request.ignored == ()


@pytest.mark.parametrize(("name", "value", "said"), NAMED)
def test_what_has_no_effect_is_named(name: str, value: Any, said: str) -> None:
    assert request(**{name: value}).ignored == (said,)


@pytest.mark.parametrize(("name", "value", "said"), NAMED)
def test_what_has_no_effect_is_an_error_in_strict_mode(name: str, value: Any, said: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        decode(CallOptions(strict=True), **{name: value})

    assert caught.value.reason == "UNSUPPORTED_PARAMETER"
    assert caught.value.field is not None
    assert caught.value.field.startswith(name)


@pytest.mark.parametrize(("name", "value", "field"), REFUSED)
def test_what_cannot_be_done_is_refused(name: str, value: Any, field: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        decode(**{name: value})

    assert (caught.value.field, caught.value.reason) == (field, "UNSUPPORTED_VALUE")


def test_what_is_not_hosted_is_refused_by_its_name() -> None:
    tool = {"type": "file_search", "vector_store_ids": []}
    for choice in ("required", {"type": "file_search"}):
        with pytest.raises(UnsupportedError, match=r"is 'file_search'. This server hosts no tools"):
            decode(tools=[tool], tool_choice=choice)
    assert request(tools=[tool], tool_choice="auto").tools == ()
    with pytest.raises(UnsupportedError, match=r"'input\[0\].type' is 'local_shell_call'"):
        decode(input=[{"type": "local_shell_call", "action": {"type": "exec"}}])


@pytest.mark.parametrize(("name", "value", "attribute", "expected"), HONOURED)
def test_what_is_honoured_reaches_the_core(
    name: str, value: Any, attribute: str, expected: object
) -> None:
    asked = request(**{name: value})

    assert getattr(asked, attribute) == expected
    assert asked.ignored == ()


def test_every_parameter_has_a_row_in_the_tests_of_its_treatment() -> None:
    by_treatment = {
        Treatment.SILENT: {name for name, _ in SILENT},
        Treatment.NAMED: {name for name, *_ in NAMED},
        Treatment.REFUSED: {name for name, *_ in REFUSED},
        Treatment.HONOURED: {name for name, *_ in HONOURED} | ELSEWHERE,
    }
    for name, rule in rules_of(ResponsesRequest).items():
        assert name in by_treatment[rule.treatment], name


WRONG: list[tuple[JsonDict, str, str]] = [
    ({"input": None}, "input", "MISSING_REQUIRED_PARAMETER"),
    ({"input": 5}, "input", "INVALID_TYPE"),
    ({"input": [5]}, "input[0]", "INVALID_TYPE"),
    ({"input": [{}]}, "input[0].id", "MISSING_REQUIRED_PARAMETER"),
    ({"input": [{"content": "x"}]}, "input[0].role", "MISSING_REQUIRED_PARAMETER"),
    ({"input": [{"role": "user"}]}, "input[0].content", "MISSING_REQUIRED_PARAMETER"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "INVALID_VALUE"),
    ({"input": [{"role": "user", "content": 5}]}, "input[0].content", "INVALID_TYPE"),
    (
        {"input": [{"role": "user", "content": [{"type": "made_up"}]}]},
        "input[0].content[0].type",
        "INVALID_VALUE",
    ),
    (
        {"input": [{"type": "function_call", "call_id": "c", "name": "f"}]},
        "input[0].arguments",
        "MISSING_REQUIRED_PARAMETER",
    ),
    (
        {"input": [{"type": "function_call_output", "output": "x"}]},
        "input[0].call_id",
        "MISSING_REQUIRED_PARAMETER",
    ),
    ({"input": []}, "input", "INVALID_VALUE"),
    ({"input": [{"role": "system", "content": "x"}]}, "input", "INVALID_VALUE"),
    ({"input": [{"role": "assistant", "content": " "}]}, "input[0]", "INVALID_VALUE"),
    ({"max_output_tokens": 0}, "max_output_tokens", "INVALID_VALUE"),
    ({"temperature": "1"}, "temperature", "INVALID_TYPE"),
    ({"temperature": 3}, "temperature", "INVALID_VALUE"),
    ({"stream": 1}, "stream", "INVALID_TYPE"),
    ({"reasoning": {"effort": "extreme"}}, "reasoning.effort", "INVALID_VALUE"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type", "INVALID_VALUE"),
    (
        {"text": {"format": {"type": "json_schema", "name": "n"}}},
        "text.format.schema",
        "MISSING_REQUIRED_PARAMETER",
    ),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "MISSING_REQUIRED_PARAMETER"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "INVALID_VALUE"),
    ({"tools": [LOOK, LOOK]}, "tools[1].name", "INVALID_VALUE"),
    ({"tool_choice": "required"}, "tool_choice", "INVALID_VALUE"),
    ({"tool_choice": "always", "tools": [LOOK]}, "tool_choice", "INVALID_VALUE"),
    (
        {"tool_choice": {"type": "function"}, "tools": [LOOK]},
        "tool_choice.name",
        "MISSING_REQUIRED_PARAMETER",
    ),
    (
        {"tool_choice": {"type": "function", "name": "x"}, "tools": [LOOK]},
        "tool_choice.name",
        "INVALID_VALUE",
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}, "tools": [LOOK]},
        "tool_choice.tools",
        "INVALID_VALUE",
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "tools": [LISTEN]}, "tools": [LOOK]},
        "tool_choice.tools[0].name",
        "INVALID_VALUE",
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}, "tools": [LOOK]},
        "tool_choice.tools[0].type",
        "UNSUPPORTED_VALUE",
    ),
    (
        {"input": [{"type": "item_reference", "id": "x"}, {"id": "x"}]},
        "input",
        "INVALID_VALUE",
    ),
]


@pytest.mark.parametrize(("parameters", "field", "reason"), WRONG)
def test_a_wrong_value_names_its_field(parameters: JsonDict, field: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked(**parameters)

    assert (caught.value.field, caught.value.reason) == (field, reason)


def test_a_body_for_chat_completions_is_refused_with_the_right_url() -> None:
    with pytest.raises(InvalidRequestError, match="POST /v1/chat/completions") as caught:
        parse_responses({"messages": [{"role": "user", "content": "hi"}]})
    assert (caught.value.field, caught.value.reason) == ("input", "MISSING_REQUIRED_PARAMETER")


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"tools": [{"type": "function", "function": {"name": "look"}}]}, "tools[0].name"),
        ({"tools": [LOOK, {"function": {}}]}, "tools[1].name"),
        (
            {"tools": [LOOK], "tool_choice": {"type": "function", "function": {"name": "look"}}},
            "tool_choice.name",
        ),
        (
            {"text": {"format": {"type": "json_schema", "json_schema": {"schema": {}}}}},
            "text.format.schema",
        ),
    ],
)
def test_tools_nested_as_for_chat_completions_are_refused_with_the_right_form(
    parameters: JsonDict, field: str
) -> None:
    with pytest.raises(InvalidRequestError, match="next to") as caught:
        decode(**parameters)

    assert (caught.value.field, caught.value.reason) == (field, "MISSING_REQUIRED_PARAMETER")


@pytest.mark.parametrize(
    ("choice", "tools", "expected"),
    [
        ("required", ("look", "listen"), ToolChoice(ToolMode.REQUIRED)),
        (
            {"type": "function", "name": "look"},
            ("look", "listen"),
            ToolChoice(ToolMode.NAMED, "look"),
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"name": "look"}]},
            ("look", "listen"),
            ToolChoice(ToolMode.REQUIRED, allowed=("look",)),
        ),
    ],
)
def test_tool_choices(choice: object, tools: tuple[str, ...], expected: ToolChoice) -> None:
    asked = request(tools=[LOOK, LISTEN], tool_choice=choice)

    assert tuple(tool.name for tool in asked.tools) == tools
    assert asked.tool_choice == expected


def test_options_of_the_call_reach_the_core() -> None:
    options = CallOptions("req_1", caller="alice", reasoning=ReasoningDisplay.ASKED, timeout=3.0)
    asked = options.applied_to(decode(options).request)

    assert (asked.request_id, asked.caller, asked.api) == ("req_1", "alice", "http")
    assert (asked.include_thinking, asked.timeout) == (True, 3.0)


@pytest.mark.parametrize(
    ("keeps", "store", "kept", "ignored"),
    [
        (True, None, True, ()),
        (True, False, False, ()),
        (False, None, False, ()),
        (False, False, False, ()),
        (False, True, False, ("store",)),
    ],
)
def test_whether_a_response_is_kept(
    keeps: bool, store: bool | None, kept: bool, ignored: tuple[str, ...]
) -> None:
    call = decode(keeps=keeps, store=store)

    assert (call.store, call.request.ignored) == (kept, ignored)


# Items


def message(role: str, *content: Any, **more: Any) -> JsonDict:
    return {"type": "message", "role": role, "content": list(content), **more}


def text(text: str, kind: str = "input_text") -> JsonDict:
    return {"type": kind, "text": text}


def call(call_id: str, name: str = "look", arguments: str = "{}", **more: Any) -> JsonDict:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        **more,
    }


def output(call_id: str, output: Any = "seen") -> JsonDict:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


@pytest.mark.parametrize(
    ("item", "parts"),
    [
        ({"role": "user", "content": "hi"}, (TextPart("hi"),)),
        ({"role": "user", "content": ""}, (TextPart(""),)),
        (message("user", text("a"), text("b")), (TextPart("a"), TextPart("b"))),
        (message("user", text("a", "text")), (TextPart("a"),)),
        (
            message("user", {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}),
            (ImagePart(InlineData("image/png", PIXEL)),),
        ),
        (
            message(
                "user",
                {"type": "input_image", "image_url": "https://x.org/a.png", "detail": "auto"},
            ),
            (ImagePart(UrlSource("https://x.org/a.png")),),
        ),
        (
            message("user", {"type": "input_file", "file_data": PDF, "filename": "a.pdf"}),
            (DocumentPart(InlineData("application/pdf", PDF), "a.pdf"),),
        ),
        (
            message("user", {"type": "input_file", "file_url": "https://x.org/a.pdf"}),
            (DocumentPart(UrlSource("https://x.org/a.pdf")),),
        ),
    ],
)
def test_messages_of_the_user(item: JsonDict, parts: tuple[Part, ...]) -> None:
    (decoded,) = messages(item)

    assert decoded == Message(Role.USER, parts)
    assert decoded.origin == "input[0]"


@pytest.mark.parametrize(
    ("part", "field"),
    [
        ({"type": "input_image", "file_id": "f"}, "input[0].content[0].file_id"),
        ({"type": "input_image"}, "input[0].content[0].image_url"),
        ({"type": "input_image", "image_url": "ftp://x"}, "input[0].content[0].image_url"),
        ({"type": "input_file", "file_id": "f"}, "input[0].content[0].file_id"),
        ({"type": "input_file"}, "input[0].content[0].file_data"),
        ({"type": "input_file", "file_data": "?"}, "input[0].content[0].file_data"),
        ({"type": "input_file", "file_url": "http://x"}, "input[0].content[0].file_url"),
        ({"type": "input_audio", "input_audio": {}}, "input[0].content[0].type"),
    ],
)
def test_parts_that_cannot_be_used(part: JsonDict, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked(input=[message("user", part)])

    assert caught.value.field == field


@pytest.mark.parametrize(
    "item",
    [
        {"role": "assistant", "content": "yes"},
        message("assistant", text("yes", "output_text")),
        message("assistant", text("yes", "input_text")),
        message("assistant", {**text("yes", "output_text"), "annotations": [], "logprobs": None}),
        message("assistant", {"type": "refusal", "refusal": "yes"}),
        message(
            "assistant", text("yes", "output_text"), id="msg_1", status="completed", phase=None
        ),
        message("assistant", {**text("yes", "output_text"), "parsed": {"a": 1}}),
    ],
)
def test_messages_of_the_assistant(item: JsonDict) -> None:
    decoded = decode(CallOptions(strict=True), input=[item, {"role": "user", "content": "on"}])

    assert decoded.request.messages == (assistant("yes"), user("on"))


@pytest.mark.parametrize("item", [{"role": "assistant"}, {"role": "assistant", "content": None}])
def test_an_empty_assistant_message_is_not_a_fault(item: JsonDict) -> None:
    assert messages(item, {"role": "user", "content": "on"})[-1] == user("on")


def test_instructions_come_before_leading_system_and_developer_messages() -> None:
    asked = request(
        instructions="A",
        input=[
            {"role": "developer", "content": "B"},
            message("system", text("C"), text("D")),
            {"role": "user", "content": "hi"},
        ],
    )

    assert asked.system == "A\nB\nC\nD"
    assert asked.messages == (user("hi"),)


def test_a_later_system_or_developer_message_keeps_its_place() -> None:
    asked = request(
        instructions="A",
        input=[
            {"role": "user", "content": "look"},
            call("c1"),
            output("c1"),
            message("system", text("B"), text("C")),
            {"role": "assistant", "content": "yes"},
            {"role": "developer", "content": "D"},
            {"type": "reasoning", "summary": []},
            {"role": "user", "content": "hi"},
        ],
    )

    assert asked.system == "A"
    assert asked.messages == (
        user("look"),
        assistant(ToolCallPart("c1", "look", "{}")),
        user(ToolResultPart("c1", (TextPart("seen"),)), TextPart("B\nC", system=True)),
        assistant("yes"),
        user(TextPart("D", system=True), TextPart("hi")),
    )


def test_a_system_message_after_what_was_kept_keeps_its_place() -> None:
    past = Past([message("developer", text("B")), message("user", text("look"))])
    new = [{"role": "developer", "content": "C"}, {"role": "user", "content": "hi"}]

    asked = decode(past=past, instructions="A", input=new).request

    assert asked.system == "A\nB"
    assert asked.messages == (user("look", TextPart("C", system=True), TextPart("hi")),)


def test_an_image_in_an_instruction_is_an_error() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        messages(message("system", {"type": "input_image", "image_url": "https://x.org/a.png"}))
    assert caught.value.field == "input[0].content"


def test_calls_and_their_outputs_are_turns() -> None:
    decoded = messages(
        {"role": "user", "content": "look"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"role": "assistant", "content": "I look."},
        call("c1", arguments='{"at": 1}', id="fc_1", status="completed"),
        call("c2", "listen", ""),
        output("c2", [text("heard"), {"type": "input_image", "image_url": "https://x.org/a.png"}]),
        output("c1"),
        {"role": "user", "content": "and?"},
    )

    heard = (TextPart("heard"), ImagePart(UrlSource("https://x.org/a.png")))
    assert decoded == (
        user("look"),
        assistant(
            "I look.", ToolCallPart("c1", "look", '{"at": 1}'), ToolCallPart("c2", "listen", "")
        ),
        user(
            ToolResultPart("c2", heard), ToolResultPart("c1", (TextPart("seen"),)), TextPart("and?")
        ),
    )


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([output("c1")], "input[0].call_id"),
        ([call("c1"), output("c2")], "input[1].call_id"),
        ([call("c1"), output("c1"), output("c1")], "input[2].call_id"),
        ([call("c1"), {"role": "user", "content": "x"}], "input[0].call_id"),
        ([call("c1"), call("c2"), output("c1")], "input[1].call_id"),
        ([call("c1"), call("c1"), output("c1")], "input[1].call_id"),
        (
            [call("c1"), output("c1", [{"type": "input_file", "file_data": ZIP}])],
            "input[1].output[0].file_data",
        ),
    ],
)
def test_calls_and_outputs_must_match(items: list[JsonDict], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked(input=items)

    assert caught.value.field == field


@pytest.mark.parametrize("arguments", ['{"at', "{}", ""])
def test_a_call_that_was_cut_off_was_not_made_where_nothing_came_of_it(arguments: str) -> None:
    cut = call("c1", arguments=arguments, status="incomplete")
    asked = validate(decode(input=[cut, {"role": "user", "content": "hi"}]).request)
    assert asked.messages == (user("hi"),)
    assert asked.repaired == ("input.arguments",)


def test_a_call_that_was_cut_off_is_left_out_with_its_output() -> None:
    cut = call("c1", arguments='{"at', status="incomplete")
    whole = call("c2")
    made = ToolCallPart("c2", "look", "{}")
    turns = (user("hi"), assistant(made), user(ToolResultPart("c2", (TextPart("seen"),))))

    asked = validate(decode(input=[HI, cut, whole, output("c1"), output("c2")]).request)
    assert (asked.messages, asked.repaired) == (turns, ("input.arguments",))
    past = Past([{**HI, "type": "message", "id": "msg_1_in0"}, {**cut, "id": "fc_1_0"}])
    asked = validate(decode(past=past, input=[output("c1")]).request)
    assert (asked.messages, asked.repaired) == ((user("hi"),), ("previous_response_id",))


# The past


def test_a_request_builds_on_what_was_kept() -> None:
    past = Past(
        [
            message("system", text("Be brief.")),
            message("user", text("look"), id="msg_1_in0"),
            {"id": "rs_1_0", "type": "reasoning", "summary": [], "status": "completed"},
            call("c1", id="fc_1_1", status="completed"),
        ]
    )

    asked = decode(past=past, input=[output("c1")], instructions=None).request

    assert asked.system == "Be brief."
    assert asked.messages == (
        user("look"),
        assistant(ToolCallPart("c1", "look", "{}")),
        user(ToolResultPart("c1", (TextPart("seen"),))),
    )
    assert [each.origin for each in asked.messages] == [
        "previous_response_id",
        "previous_response_id",
        "input[0]",
    ]


def test_a_call_of_the_past_wants_its_output_in_the_input() -> None:
    with pytest.raises(InvalidRequestError, match="'c1' in 'previous_response_id'") as caught:
        checked(Past([message("user", text("look")), call("c1")]))
    assert caught.value.field == "input"


def test_what_the_past_has_already_need_not_be_sent_again() -> None:
    past = Past([message("user", text("look")), call("c1")])
    with pytest.raises(InvalidRequestError, match="omit items that the conversation") as caught:
        checked(past, input=[call("c1"), output("c1")])
    assert caught.value.field == "input[0].call_id"


def test_a_history_of_thinking_alone_is_refused_with_what_is_missing() -> None:
    with pytest.raises(InvalidRequestError, match="no user message") as caught:
        messages({"type": "reasoning", "summary": []})
    assert caught.value.field == "input"


def test_what_was_ignored_of_the_past_was_named_then() -> None:
    past = Past([{**message("user", text("a")), "name": "bob"}])

    assert decode(CallOptions(strict=True), past).request.ignored == ()


def test_a_reference_stands_for_its_item() -> None:
    answer = message("assistant", text("yes", "output_text"), id="msg_1_0")
    past = Past(referenced={"msg_1_0": answer})
    reference = {"type": "item_reference", "id": "msg_1_0"}

    asked = decode(past=past, input=[reference, {"role": "user", "content": "on"}])

    assert asked.request.messages == (assistant("yes"), user("on"))
    assert asked.items[0]["content"] == [
        {"type": "output_text", "text": "yes", "annotations": [], "logprobs": []}
    ]


def test_items_are_kept_in_their_long_form_with_an_id() -> None:
    image = {"type": "input_image", "image_url": "https://x.org/a.png"}
    document = {"type": "input_file", "file_data": PDF, "filename": "a.pdf"}
    kept = decode(
        input=[
            {"role": "user", "content": "hi"},
            message("user", text("a", "text"), image, document, id="mine"),
            {"role": "assistant", "content": "yes"},
            {"type": "reasoning", "summary": [], "encrypted_content": "secret"},
            call("c1"),
            output("c1", [text("seen")]),
        ]
    ).items

    assert [item["id"] for item in kept] == [
        "msg_00ab_in0",
        "msg_00ab_in1",
        "msg_00ab_in2",
        "rs_00ab_in3",
        "fc_00ab_in4",
        "fco_00ab_in5",
    ]
    assert kept[0]["content"] == [text("hi")]
    assert kept[1]["content"] == [text("a"), {**image, "detail": "auto"}, document]
    assert kept[2]["content"][0]["type"] == "output_text"
    assert "encrypted_content" not in kept[3]
    assert kept[4]["status"] == "completed"
    assert kept[5]["output"] == [text("seen")]
    again = decode(past=Past(kept)).request.messages
    assert [each.role for each in again] == [Role.USER, Role.ASSISTANT, Role.USER]


# What the reply repeats


def test_the_reply_repeats_what_was_asked() -> None:
    echo = decode(
        instructions="Be brief.",
        metadata={"a": "b"},
        tools=[LISTEN],
        tool_choice={"type": "function", "name": "listen"},
        parallel_tool_calls=False,
        temperature=0.5,
        max_output_tokens=9,
        text={"format": {"type": "json_schema", "schema": SCHEMA}, "verbosity": "low"},
        reasoning={"effort": "low", "summary": "auto"},
        previous_response_id="resp_1",
    ).echo

    assert echo["instructions"] == "Be brief."
    assert echo["metadata"] == {"a": "b"}
    assert echo["tools"] == [{**LISTEN, "strict": None}]
    assert echo["tool_choice"] == {"type": "function", "name": "listen"}
    assert echo["parallel_tool_calls"] is False
    assert (echo["temperature"], echo["top_p"]) == (0.5, 1.0)
    assert echo["max_output_tokens"] == 9
    assert echo["text"] == {
        "format": {"name": "", "type": "json_schema", "schema": SCHEMA},
        "verbosity": "low",
    }
    assert echo["reasoning"] == {"effort": "low", "summary": "auto"}
    assert echo["previous_response_id"] == "resp_1"


class OneText(str):
    """A text that must not be visited character by character: it can have 31 million."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        raise AssertionError


def test_a_text_has_no_references() -> None:
    assert references_of(OneText("hello")) == []
