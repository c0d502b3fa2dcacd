"""What becomes of every parameter of the Messages API."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from anthropic.types import message_create_params
from anthropic.types.beta import message_create_params as beta_create_params

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
    Pieces,
    Place,
    Role,
    Sampling,
    SearchResultPart,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolMode,
    ToolResultPart,
    UrlSource,
)
from bridge.core.validation import validate
from bridge.http_server.anthropic.messages.decode import Call, decode_message_request
from bridge.http_server.anthropic.messages.wire import MessagesRequest
from bridge.http_server.context import CallOptions, ReasoningDisplay
from bridge.http_server.wire import Treatment, rules_of

USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
FORMAT = {"type": "json_schema", "schema": SCHEMA}
JSON = OutputFormat(OutputKind.JSON_SCHEMA, schema=SCHEMA)
LOOK = {"name": "look", "input_schema": SCHEMA}
NOTE = base64.b64encode(b"one\ntwo").decode()


FOUND: dict[str, Any] = {
    "type": "search_result",
    "source": "https://a.example",
    "title": "T",
    "content": [{"type": "text", "text": "one"}],
}


def pieces(*blocks: Any) -> dict[str, Any]:
    """A document in pieces."""
    return {"type": "document", "source": {"type": "content", "content": list(blocks)}}


def decode(options: CallOptions | None = None, **parameters: Any) -> Call:
    body = {"model": "opus", "max_tokens": 9, "messages": [USER], **parameters}
    call = decode_message_request(body, options or CallOptions())
    validate(call.request)
    return call


def request(**parameters: Any) -> CompletionRequest:
    return decode(**parameters).request


def parts(*blocks: Any) -> tuple[Any, ...]:
    """The parts of a user's message of these blocks."""
    (message,) = request(messages=[{"role": "user", "content": list(blocks)}]).messages
    return message.parts


def test_the_table_knows_every_parameter_of_the_client() -> None:
    of_client = {
        *message_create_params.MessageCreateParamsBase.__annotations__,
        *beta_create_params.MessageCreateParamsBase.__annotations__,
    }
    # What the client itself sends otherwise: as a header, and as `output_config.format`.
    of_client -= {"betas"}

    older = {"stream", "output_format", "temperature", "top_p", "top_k"}
    assert set(rules_of(MessagesRequest)) == of_client | older | {"mcp_servers"}


HONOURED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"model": "sonnet"}, {"model": "sonnet"}),
    ({"max_tokens": 7.0}, {"max_output_tokens": 7}),
    ({"stream": True}, {"whole": False}),
    ({"stream": False}, {"whole": True}),
    ({"system": "Be kind."}, {"system": "Be kind."}),
    ({"system": ""}, {"system": None}),
    ({"temperature": 0.5}, {"sampling": Sampling(temperature=0.5)}),
    ({"top_p": 0.5}, {"sampling": Sampling(top_p=0.5)}),
    ({"top_k": 5}, {"sampling": Sampling(top_k=5)}),
    ({"stop_sequences": ["a", "b"]}, {"sampling": Sampling(stop=("a", "b"))}),
    ({"tools": [LOOK]}, {"tools": (Tool("look", "", SCHEMA),)}),
    (
        {"tools": [LOOK], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {"tool_choice": ToolChoice(ToolMode.REQUIRED, parallel=False)},
    ),
    ({"output_config": {"effort": "xhigh"}}, {"effort": Effort.XHIGH}),
    (
        {"output_config": {"format": FORMAT}},
        {"output_format": JSON},
    ),
    (
        {"output_format": FORMAT},
        {"output_format": OutputFormat(OutputKind.JSON_SCHEMA, "", SCHEMA)},
    ),
    ({}, {"thinking": None, "include_thinking": False, "include_signatures": False}),
    ({"thinking": {"type": "disabled"}}, {"thinking": False, "include_thinking": False}),
    (
        {"thinking": {"type": "adaptive"}},
        {"thinking": None, "include_thinking": True, "include_signatures": True},
    ),
    (
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
        {"thinking": False, "effort": Effort.HIGH},
    ),
    ({"metadata": {"user_id": "u"}}, {"labels": {"user_id": "u"}}),
    ({"metadata": {"user_id": None, "other": 1}}, {"labels": {}}),
    ({"messages": [USER]}, {"messages": (Message(Role.USER, (TextPart("hi"),)),)}),
]


@pytest.mark.parametrize(("parameters", "fields"), HONOURED)
def test_what_is_honoured_reaches_the_core(
    parameters: dict[str, Any], fields: dict[str, Any]
) -> None:
    asked = request(**parameters)

    assert {name: getattr(asked, name) for name in fields} == fields
    assert asked.ignored == ()


SILENT: list[tuple[str, Any]] = [
    ("cache_control", {"type": "ephemeral", "ttl": "1h"}),
    ("service_tier", "standard_only"),
    ("service_tier", None),
    ("speed", "standard"),
    ("context_management", {"edits": []}),
    ("context_management", {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}),
    ("mcp_servers", []),
    ("inference_geo", "global"),
    ("fallbacks", []),
    ("tools", []),
    ("top_k", None),
    ("thinking", {"type": "adaptive", "display": "omitted"}),
    ("system", [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]),
    ("tools", [{**LOOK, "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}]),
    ("tools", [{**LOOK, "type": "custom", "strict": False, "allowed_callers": ["direct"]}]),
]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(("name", "value"), SILENT)
def test_what_changes_nothing_passes_without_a_word(name: str, value: Any, strict: bool) -> None:
    assert decode(CallOptions(strict=strict), **{name: value}).request.ignored == ()


NAMED: list[tuple[dict[str, Any], str]] = [
    ({"speed": "fast"}, "speed"),
    ({"diagnostics": {"previous_message_id": None}}, "diagnostics"),
    ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
    ({"compaction": {"type": "x"}}, "compaction"),
    ({"fallbacks": [{"model": "a"}]}, "fallbacks"),
    ({"fallback_credit_token": "a"}, "fallback_credit_token"),
    ({"billing_policy": {}}, "billing_policy"),
    ({"user_profile_id": "u"}, "user_profile_id"),
    ({"workspace_id": "w"}, "workspace_id"),
    ({"seed": 5}, "seed"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "between_tools"}}, "thinking.type"),
    ({"output_config": {"task_budget": {"type": "tokens"}}}, "output_config.task_budget"),
    ({"output_config": {"format": FORMAT}, "output_format": FORMAT}, "output_format"),
    ({"tools": [{**LOOK, "strict": True}]}, "tools.strict"),
    ({"tools": [{**LOOK, "input_examples": [{}]}]}, "tools.input_examples"),
    (
        {"tools": [{"type": "web_search_20260318", "name": "web_search"}]},
        "tools.web_search_20260318",
    ),
    ({"tool_choice": {"type": "auto", "name": "look"}}, "tool_choice.name"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "new": 1}]}]},
        "messages.content.new",
    ),
    (
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": "a", "citations": [{"cited_text": "a"}]}],
                },
                USER,
            ]
        },
        "messages.content.citations",
    ),
]


@pytest.mark.parametrize(("parameters", "name"), NAMED)
def test_what_has_no_effect_is_named(parameters: dict[str, Any], name: str) -> None:
    assert request(**parameters).ignored == (name,)


@pytest.mark.parametrize(("parameters", "name"), NAMED)
def test_what_has_no_effect_is_an_error_in_strict_mode(
    parameters: dict[str, Any], name: str
) -> None:
    with pytest.raises(UnsupportedError, match="strict"):
        decode(CallOptions(strict=True), **parameters)


def content(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"inference_geo": "us"}, "inference_geo"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": [{"url": "https://mcp.example"}]}, "mcp_servers"),
    ({"thread": {"id": "t"}}, "thread"),
    (content({"type": "container_upload", "file_id": "f"}), "messages[0].content[0].type"),
    (content({"type": "server_tool_use"}, role="assistant"), "messages[0].content[0].type"),
    (
        content({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        "messages[0].content[0].source.file_id",
    ),
    (
        content({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "web_search"}]}),
        "messages[0].content[0].content[0].type",
    ),
]


@pytest.mark.parametrize(("parameters", "field"), REFUSED)
def test_what_cannot_be_done_is_refused(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        request(**parameters)

    assert caught.value.field == field


def test_a_thread_is_refused_by_the_reason_that_clients_go_on_without_one_for() -> None:
    with pytest.raises(UnsupportedError) as caught:
        request(thread={"type": "create"})

    assert caught.value.reason == "THREAD_UNSUPPORTED_REQUEST"


def test_every_parameter_has_a_row_in_the_tests_of_its_treatment() -> None:
    rows = {
        Treatment.HONOURED: {name for given, _ in HONOURED for name in given} | {"tool_choice"},
        Treatment.SILENT: {name for name, _ in SILENT},
        Treatment.NAMED: {name for given, _ in NAMED for name in given},
        Treatment.REFUSED: {name for given, _ in REFUSED for name in given},
    }

    assert {
        name for name, rule in rules_of(MessagesRequest).items() if name not in rows[rule.treatment]
    } == set()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "9"}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "developer", "content": "a"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (content({"text": "a"}), "messages[0].content[0].type"),
    (content({"type": "text"}), "messages[0].content[0].text"),
    (
        content({"type": "image", "source": {"type": "base64", "media_type": "a", "data": "?"}}),
        "messages[0].content[0].source.data",
    ),
    (
        content({"type": "document", "source": {"type": "url", "url": "http://a.example"}}),
        "messages[0].content[0]",
    ),
    (content({"type": "thinking", "thinking": "a", "signature": "b"}), "messages[0].content[0]"),
    (content(FOUND | {"content": []}), "messages[0].content[0]"),
    (content(FOUND | {"content": [{"type": "text", "text": " "}]}), "messages[0].content[0]"),
    (content(FOUND | {"source": None}), "messages[0].content[0].source"),
    (content(FOUND, role="assistant"), "messages[0].content[0]"),
    (content(pieces({"type": "text", "text": ""})), "messages[0].content[0]"),
    (
        content(pieces({"type": "image", "source": {"type": "url", "url": "http://a.example"}})),
        "messages[0].content[0].source.content[0]",
    ),
    (content(pieces({"type": "document"})), "messages[0].content[0].source.content[0].type"),
    (
        content(FOUND | {"citations": {"enabled": True}}) | {"output_config": {"format": FORMAT}},
        "output_config.format",
    ),
    ({"top_k": 0}, "top_k"),
    ({"temperature": 1.5}, "temperature"),
    ({"stop_sequences": ["a"] * 5}, "stop_sequences"),
    ({"tools": [{"name": "look"}]}, "tools[0].input_schema"),
    ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
    ({"tools": [LOOK, LOOK]}, "tools[1].name"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tool_choice": {"type": "tool", "name": "look"}}, "tool_choice.name"),
    ({"thinking": {"type": "on"}}, "thinking.type"),
    ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    (
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}],
                },
            ]
        },
        "messages[1].content[0].id",
    ),
    (content({"type": "tool_result", "tool_use_id": "t"}), "messages[0].content[0].tool_use_id"),
]


@pytest.mark.parametrize(("parameters", "field"), WRONG)
def test_a_wrong_value_names_its_field(parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        request(**parameters)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("effort", "output_config.effort"),
        ("include_thinking", "thinking"),
        ("max_output_tokens", "max_tokens"),
        ("messages.parts.thinking", "messages.content.thinking"),
        ("output_format", "output_config.format"),
        ("output_format.schema", "output_config.format.schema"),
        ("sampling.stop", "stop_sequences"),
        ("sampling.temperature", "temperature"),
        ("tool_choice.mode", "tool_choice"),
        ("tools[0].name", "tools[0].name"),
    ],
)
def test_a_field_of_the_core_has_its_name_here(path: str, name: str) -> None:
    assert request().field_names(Place(path)) == name


@pytest.mark.parametrize("body", [None, [], "a"])
def test_a_body_must_be_an_object(body: object) -> None:
    with pytest.raises(InvalidRequestError, match="must be a JSON object"):
        decode_message_request(body, CallOptions())


def test_thinking_is_also_shown_by_the_header() -> None:
    assert decode(CallOptions(reasoning=ReasoningDisplay.ASKED)).request.include_signatures


def test_thinking_may_be_omitted_from_the_reply() -> None:
    assert decode(thinking={"type": "adaptive", "display": "omitted"}).omit_thinking
    assert not decode(thinking={"type": "adaptive", "display": "summarized"}).omit_thinking
    assert not decode().omit_thinking


# Content


def test_media_by_data_by_address_and_by_text() -> None:
    png = {"type": "base64", "media_type": "image/png", "data": "iVBORw0K\nGgo="}
    with pytest.raises(InvalidRequestError, match="image"):
        parts({"type": "image", "source": png})
    far = "https://media.example/a"

    assert parts({"type": "image", "source": {"type": "url", "url": far}}) == (
        ImagePart(UrlSource(far)),
    )
    assert parts({"type": "document", "source": {"type": "url", "url": far}, "title": "T"}) == (
        DocumentPart(UrlSource(far), "T"),
    )
    note = {"type": "text", "media_type": "text/plain", "data": "one\ntwo"}
    assert parts({"type": "document", "source": note, "context": "C"}) == (
        DocumentPart(InlineData("text/plain", NOTE), context="C"),
    )


def test_documents_in_pieces_and_search_results() -> None:
    one: Any = {"type": "text", "text": "one"}
    image: Any = {"type": "image", "source": {"type": "url", "url": "https://media.example/a"}}
    whole: Any = {"type": "content", "content": "one"}

    assert parts(pieces(one, image), {**pieces(), "source": whole}) == (
        DocumentPart(Pieces((TextPart("one"), ImagePart(UrlSource("https://media.example/a"))))),
        DocumentPart(Pieces((TextPart("one"),))),
    )
    assert parts(FOUND, FOUND | {"citations": {"enabled": True}}) == (
        SearchResultPart("https://a.example", "T", (TextPart("one"),)),
        SearchResultPart("https://a.example", "T", (TextPart("one"),), citations=True),
    )


@pytest.mark.parametrize("within", [False, True])
def test_an_answer_cites_what_any_message_asks_it_to(within: bool) -> None:
    cited = {**FOUND, "citations": {"enabled": True}}
    call = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [cited if within else FOUND]}
    messages = [
        USER,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]

    assert request(messages=messages).citations is within


def test_breakpoints_inside_of_blocks_are_named() -> None:
    marked = {"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}}

    for block in (FOUND | {"content": [marked]}, pieces(marked)):
        assert request(**content(block)).ignored == ("messages.content.cache_control",)


def test_calls_and_results_and_thinking_keep_their_order() -> None:
    asked = request(
        tools=[LOOK],
        messages=[
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "d"},
                    {"type": "text", "text": "I look."},
                    {
                        "type": "tool_use",
                        "id": "t",
                        "name": "look",
                        "input": {"at": "ö"},
                        "caller": {"type": "direct"},
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "text", "text": "no"}],
                        "is_error": True,
                    },
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
    )

    assert asked.ignored == ()
    assert asked.messages[1].parts == (
        ThinkingPart("hm", "s"),
        ThinkingPart(encrypted="d"),
        TextPart("I look."),
        ToolCallPart("t", "look", '{"at": "ö"}'),
    )
    assert asked.messages[2].parts == (
        ToolResultPart("t", (TextPart("no"),), is_error=True),
        TextPart("go on"),
    )


def test_an_answer_of_the_server_can_be_sent_back() -> None:
    block = {"type": "text", "text": "a", "citations": None}
    answer = {"role": "assistant", "content": [block]}

    assert request(messages=[USER, answer, USER]).ignored == ()
