"""Each rule: a request that breaks it, next to a valid one that differs only in that."""

import base64
from typing import Any

import pytest

from bridge.simulator.api import models, rules
from bridge.simulator.api.shape import shape

# A model that still accepts sampling, a prefill and a forced tool; the rest is for the newer ones.
OLD = "claude-haiku-4-5"
SYSTEM_ROLE = "claude-opus-4-8"
TOOL = {"name": "add", "input_schema": {"type": "object"}}


def request(**fields: Any) -> dict[str, Any]:
    return {
        "model": OLD,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Hello"}],
    } | fields


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks) if blocks else "Hello"}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks) if blocks else "Hi"}


def system(content: Any = "Be brief.", **fields: Any) -> dict[str, Any]:
    return {"role": "system", "content": content} | fields


def text(value: str = "x", **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": value} | fields


def call(ident: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_use", "id": ident, "name": "add", "input": {}}


def result(ident: str = "toolu_1") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": ident, "content": "3"}


def image(media_type: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": "eA=="}}


def pixels(media_type: str, first_bytes: bytes) -> dict[str, Any]:
    data = base64.b64encode(first_bytes + b"\0" * 16).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


PNG, JPEG, GIF, WEBP = b"\x89PNG\r\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\0\0\0\0WEBP"


def document(*, cited: bool) -> dict[str, Any]:
    source = {"type": "text", "media_type": "text/plain", "data": "x"}
    return {"type": "document", "source": source, "citations": {"enabled": cited}}


def found(*, cited: bool) -> dict[str, Any]:
    block = {"type": "search_result", "source": "s", "title": "t", "content": [text()]}
    return {**block, "citations": {"enabled": cited}}


def talk(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return request(messages=list(messages), **fields)


def schema(value: dict[str, Any]) -> dict[str, Any]:
    return request(output_config={"format": {"type": "json_schema", "schema": value}})


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


ADAPTIVE = {"thinking": {"type": "adaptive"}}
BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
CACHED: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
HOUR: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
CLEAR = {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}
FORCED = {"tools": [TOOL], "tool_choice": {"type": "any"}}

CASES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    (
        "max_tokens is required",
        {k: v for k, v in request().items() if k != "max_tokens"},
        "max_tokens: Field required",
        request(),
    ),
    (
        "max_tokens is at least 1",
        request(max_tokens=0),
        "max_tokens: Input should be greater than or equal to 1",
        request(max_tokens=1),
    ),
    ("messages are a list", request(messages="hi"), "messages: Input should be a valid", request()),
    ("there is a message", request(messages=[]), "at least one message", request()),
    (
        "roles are known",
        talk({"role": "tool", "content": "x"}),
        "messages.0.role: Input should be",
        talk(user()),
    ),
    (
        "the user begins",
        talk(assistant(), user()),
        "messages: first message must use the",
        talk(user(), assistant(), user()),
    ),
    (
        "a system message follows a user's",
        talk(user(), assistant(), system(), model=SYSTEM_ROLE),
        "must immediately follow a user message",
        talk(user(), system(), assistant(), user(), system(), model=SYSTEM_ROLE),
    ),
    (
        "no two system messages in a row",
        talk(user(), system(), system(), model=SYSTEM_ROLE),
        "must be last or be followed by an assistant message",
        talk(user(), system(), model=SYSTEM_ROLE),
    ),
    (
        "a system message is not before a user's, unless it only sets the effort",
        talk(user(), system(), user(), model=SYSTEM_ROLE),
        "must be last or be followed by an assistant message",
        talk(
            user(),
            assistant(),
            system([], output_config={"effort": "low"}),
            user(),
            model=SYSTEM_ROLE,
        ),
    ),
    (
        "older models have no system role",
        talk(user(), system()),
        "role 'system' is not supported on this model",
        talk(user(), system(), model=SYSTEM_ROLE),
    ),
    (
        "a user says something",
        talk({"role": "user", "content": ""}),
        "messages.0: user messages must have non-empty content",
        talk(user()),
    ),
    (
        "an assistant says something, but for the last",
        talk(user(), {"role": "assistant", "content": []}, user()),
        "messages.1: all messages must have non-empty content",
        talk(user(), {"role": "assistant", "content": []}),
    ),
    (
        "no empty text block",
        talk(user(text(""), text("x"))),
        "messages: text content blocks must be non-empty",
        talk(user(text(" "), text("x"))),
    ),
    (
        "no text of whitespace alone",
        talk(user(text(" \n"))),
        "messages: text content blocks must contain non-whitespace text",
        talk(user(text(" \nx"))),
    ),
    (
        "no text of whitespace alone beside a call",
        talk(user(), assistant(text("\n\n"), call()), user(result())),
        "messages: text content blocks must contain non-whitespace text",
        talk(user(), assistant(text("\n\n"), text("x"), call()), user(result())),
    ),
    (
        "no result of whitespace alone",
        talk(user(), assistant(call()), user(result() | {"content": [text(" ")]})),
        "messages: text content blocks must contain non-whitespace text",
        talk(user(), assistant(call()), user(result() | {"content": ""})),
    ),
    (
        "a prefilled answer does not end in whitespace",
        talk(user(), assistant(text("So "))),
        "messages: final assistant content cannot end with trailing whitespace",
        talk(user(), assistant(text("So"))),
    ),
    (
        "no empty system block",
        request(system=[text("a"), text("")]),
        "system: text content blocks must be non-empty",
        request(system=""),
    ),
    (
        "ids of calls have the API's characters",
        talk(user(), assistant(call("call_abc:1")), user(result("call_abc:1"))),
        "messages.1.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
        talk(user(), assistant(call("call_abc-1")), user(result("call_abc-1"))),
    ),
    (
        "ids of calls are unique",
        talk(user(), assistant(call(), call()), user(result())),
        "messages.1.content.1: `tool_use` ids must be unique",
        talk(user(), assistant(call(), call("b")), user(result(), result("b"))),
    ),
    (
        "a call is answered",
        talk(user(), assistant(call(), call("b")), user(result())),
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: b.",
        talk(user(), assistant(call(), call("b")), user(result()), user(result("b"))),
    ),
    (
        "a last call is answered too",
        talk(user(), assistant(call())),
        "messages.1: `tool_use` ids were found without",
        talk(user(), assistant(text())),
    ),
    (
        "results come first",
        talk(user(), assistant(call()), user(text(), result())),
        "messages.1: `tool_use` ids were found without",
        talk(user(), assistant(call()), user(result(), text())),
    ),
    (
        "a call is answered at once, though system messages may stand between",
        talk(user(), assistant(call()), user(), assistant(), user(result()), model=SYSTEM_ROLE),
        "messages.1: `tool_use` ids were found without",
        talk(user(), system(), assistant(call()), user(result()), system(), model=SYSTEM_ROLE),
    ),
    (
        "a result has its call",
        talk(user(result("toolu_9"))),
        "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_9.",
        talk(user(), assistant(call("toolu_9")), user(result("toolu_9"))),
    ),
    (
        "a call has one result",
        talk(user(), assistant(call()), user(result(), result())),
        "each `tool_use` must have a single `tool_result`",
        talk(user(), assistant(call()), user(result())),
    ),
    (
        "calls are the assistant's",
        talk(user(call())),
        "messages.0.content.0: `tool_use` blocks can only be in `assistant` messages",
        talk(user(), assistant(call()), user(result())),
    ),
    (
        "results are the user's",
        talk(user(), assistant(call()), user(result()), assistant(result())),
        "messages.3.content.0: `tool_result` blocks can only be in `user` messages",
        talk(user(), assistant(call()), user(result()), assistant()),
    ),
    (
        "a result that is an error says something",
        talk(user(), assistant(call()), user(result() | {"content": "", "is_error": True})),
        "messages.2.content.0.tool_result: content cannot be empty if `is_error` is true",
        talk(user(), assistant(call()), user(result() | {"is_error": True})),
    ),
    (
        "a result that is an error is text",
        talk(
            user(),
            assistant(call()),
            user(result() | {"content": [image("image/png")], "is_error": True}),
        ),
        "messages.2.content.0.tool_result: all content must be type `text` if `is_error` is true",
        talk(user(), assistant(call()), user(result() | {"content": [image("image/png")]})),
    ),
    (
        "images are of four types",
        talk(user(image("image/bmp"))),
        "messages.0.content.0.image.source.base64.media_type: Input should be",
        talk(user(image("image/webp"))),
    ),
    (
        "images in results too",
        talk(user(), assistant(call()), user(result() | {"content": [image("image/tiff")]})),
        "messages.2.content.0.tool_result.content.0.image.source.base64.media_type: Input should",
        talk(user(), assistant(call()), user(result() | {"content": [image("image/png")]})),
    ),
    (
        "images are what they are said to be",
        talk(user(pixels("image/jpeg", PNG))),
        "messages.0.content.0.image.source.base64: The image was specified using the image/jpeg "
        "media type, but the image appears to be a image/png image",
        talk(user(*map(pixels, ("image/png", "image/gif", "image/webp"), (PNG, GIF, WEBP)))),
    ),
    (
        "images in results are what they are said to be",
        talk(user(), assistant(call()), user(result() | {"content": [pixels("image/png", JPEG)]})),
        "messages.2.content.0.tool_result.content.0.image.source.base64: The image was specified",
        talk(user(), assistant(call()), user(result() | {"content": [pixels("image/png", PNG)]})),
    ),
    (
        "images are base64",
        talk(user({"type": "image", "source": dict(image("image/png")["source"], data="%%")})),
        "messages.0.content.0.image.source.base64: invalid base64 data",
        talk(user(image("image/png"))),
    ),
    (
        "breakpoints of an hour come before those of five minutes",
        talk(user(text(**CACHED), text(**HOUR))),
        "messages.0.content.1.cache_control.ttl: a ttl='1h' cache_control block must not come "
        "after a ttl='5m' cache_control block.",
        talk(user(text(**HOUR), text(**CACHED))),
    ),
    (
        "tools come before the system prompt, and both before messages",
        request(tools=[TOOL | CACHED], system=[text(**HOUR)]),
        "system.0.cache_control.ttl: a ttl='1h' cache_control block must not come after",
        request(tools=[TOOL | HOUR], system=[text(**HOUR)], messages=[user(text(**CACHED))]),
    ),
    (
        "automatic caching marks the end",
        request(system=[text(**CACHED)], **HOUR),
        "cache_control.ttl: a ttl='1h' cache_control block must not come after",
        request(system=[text(**HOUR)], **CACHED),
    ),
    (
        "four breakpoints",
        request(
            tools=[TOOL | CACHED],
            system=[text(**CACHED)],
            messages=[user(text(**CACHED), text(**CACHED), text(**CACHED))],
        ),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        request(
            tools=[TOOL | CACHED],
            system=[text(**CACHED)],
            messages=[user(text(**CACHED), text(**CACHED), text())],
        ),
    ),
    (
        "tool names have the API's characters",
        request(tools=[TOOL | {"name": "a.b"}]),
        "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
        request(tools=[TOOL | {"name": "a" * 128}]),
    ),
    (
        "tool names are unique",
        request(tools=[TOOL, TOOL]),
        "tools: Tool names must be unique.",
        request(tools=[TOOL, TOOL | {"name": "add2"}]),
    ),
    (
        "a tool choice needs tools",
        request(tool_choice={"type": "auto"}),
        "tool_choice: Tool_choice may only be specified while providing tools",
        request(tool_choice={"type": "auto"}, tools=[TOOL]),
    ),
    (
        "the chosen tool is offered",
        request(tool_choice={"type": "tool", "name": "sub"}, tools=[TOOL]),
        "tool_choice: Tool 'sub' not found in provided tools",
        request(tool_choice={"type": "tool", "name": "add"}, tools=[TOOL]),
    ),
    (
        "the kind of choice is known",
        request(tool_choice={"type": "required"}, tools=[TOOL]),
        "tool_choice: Input tag should be",
        request(tool_choice={"type": "any"}, tools=[TOOL]),
    ),
    (
        "no empty stop sequence",
        request(stop_sequences=["END", ""]),
        "stop_sequences: each stop sequence must be non-empty",
        request(stop_sequences=["END"]),
    ),
    (
        "no stop sequence of whitespace",
        request(stop_sequences=["\n\n"]),
        "stop_sequences: each stop sequence must contain non-whitespace",
        request(stop_sequences=["\n\nEND"]),
    ),
    (
        "temperature is at most 1",
        request(temperature=1.2),
        "temperature: range: 0..1",
        request(temperature=0),
    ),
    ("top_p is at most 1", request(top_p=1.5), "top_p: range: 0..1", request(top_p=0.5)),
    (
        "temperature or top_p",
        request(temperature=0.5, top_p=0.9),
        "`temperature` and `top_p` cannot both be specified for this model.",
        request(temperature=0.5),
    ),
    (
        "no sampling on the newest models",
        request(model="claude-opus-5-5", temperature=0.5),
        "`temperature` is deprecated for this model.",
        request(model="claude-opus-5-5", temperature=1),
    ),
    (
        "no top_p on the newest models",
        request(model="claude-sonnet-5", top_p=0.9),
        "`top_p` is deprecated for this model.",
        request(model="claude-sonnet-4-6", top_p=0.9),
    ),
    (
        "no top_k on the newest models",
        request(model="claude-opus-4-7", top_k=5),
        "`top_k` is deprecated for this model.",
        request(model="claude-opus-4-6", top_k=5),
    ),
    (
        "thinking goes with a temperature of 1",
        request(**BUDGET, temperature=0.5),
        "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode.",
        request(**BUDGET, temperature=1),
    ),
    (
        "thinking goes with a top_p of 0.95",
        request(model="claude-sonnet-4-6", **ADAPTIVE, top_p=0.9),
        "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.",
        request(model="claude-sonnet-4-6", **ADAPTIVE, top_p=0.95),
    ),
    (
        "thinking goes without top_k",
        request(**BUDGET, top_k=5),
        "`top_k` must be unset when thinking is enabled.",
        request(top_k=5),
    ),
    (
        "thinking goes without a forced tool",
        request(model="claude-sonnet-4-6", **ADAPTIVE, **FORCED),
        "Thinking may not be enabled when tool_choice forces tool use.",
        request(model="claude-sonnet-4-6", thinking={"type": "disabled"}, **FORCED),
    ),
    (
        "thinking goes without a prefill",
        talk(user(), assistant(), **BUDGET),
        "final assistant content cannot be pre-filled when thinking is enabled",
        talk(user(), assistant()),
    ),
    (
        "the budget is at least 1024",
        request(thinking={"type": "enabled", "budget_tokens": 10}),
        "budget_tokens: Input should be greater than or equal to 1024",
        request(**BUDGET),
    ),
    (
        "the budget is below max_tokens",
        request(**BUDGET, max_tokens=1024),
        "`max_tokens` must be greater than `thinking.budget_tokens`",
        request(**BUDGET, max_tokens=1025),
    ),
    (
        "clearing thinking needs thinking",
        request(**CLEAR),
        "`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive",
        request(**CLEAR, **BUDGET),
    ),
    (
        "no budget on the newest models",
        request(model="claude-opus-4-7", **BUDGET),
        '"thinking.type.enabled" is not supported for this model.',
        request(model="claude-opus-4-7", **ADAPTIVE),
    ),
    (
        "thinking is always on in the newest models",
        request(model="claude-opus-5-5", thinking={"type": "disabled"}),
        '"thinking.type.disabled" is not supported for this model.',
        request(model="claude-opus-5", thinking={"type": "disabled"}),
    ),
    (
        "no disabled thinking with much effort",
        request(
            model="claude-opus-5",
            thinking={"type": "disabled"},
            output_config={"effort": "max"},
        ),
        "output_config.effort 'max' is not supported when thinking is disabled on this model. ",
        request(
            model="claude-opus-5",
            thinking={"type": "disabled"},
            output_config={"effort": "high"},
        ),
    ),
    (
        "no thinking between tools with much effort",
        request(
            model="claude-sonnet-5-5",
            thinking={"type": "between_tools"},
            output_config={"effort": "xhigh"},
        ),
        "output_config.effort 'xhigh' is not supported when thinking is disabled on this model. ",
        request(model="claude-sonnet-5-5", output_config={"effort": "xhigh"}),
    ),
    (
        "efforts are known",
        request(output_config={"effort": "minimal"}),
        "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        request(output_config={"effort": "low"}),
    ),
    (
        "older models have no xhigh",
        request(model="claude-opus-4-6", output_config={"effort": "xhigh"}),
        "This model does not support effort level 'xhigh'. Supported levels: high, low, max,",
        request(model="claude-opus-4-6", output_config={"effort": "max"}),
    ),
    (
        "between_tools is Sonnet 5.5's",
        request(model="claude-opus-5-5", thinking={"type": "between_tools"}),
        '"thinking.type.between_tools" is not supported for this model.',
        request(model="claude-sonnet-5-5", thinking={"type": "between_tools"}),
    ),
    (
        "no forced tool on the newest models",
        request(model="claude-opus-5-5", **FORCED),
        'tool_choice: type "tool" and "any" are not supported for this model.',
        request(model="claude-haiku-5-5", **FORCED),
    ),
    (
        "no prefill on newer models",
        talk(user(), assistant(), model="claude-opus-4-6"),
        "This model does not support assistant message prefill.",
        talk(user(), assistant(), user(), model="claude-opus-4-6"),
    ),
    (
        "the output format is a JSON schema",
        request(output_config={"format": {"type": "json_object"}}),
        "output_config.format: Input tag should be 'json_schema'",
        request(output_config={"effort": "low"}),
    ),
    (
        "objects are closed",
        schema({"type": "object", "properties": {}}),
        "For 'object' type, 'additionalProperties' must be explicitly set to false",
        schema(closed()),
    ),
    (
        "inner objects are closed",
        schema(closed(a={"type": "array", "items": {"type": "object"}})),
        "For 'object' type, 'additionalProperties' must be explicitly set to false",
        schema(closed(a={"type": "array", "items": closed()})),
    ),
    (
        "objects are not open",
        schema(closed() | {"additionalProperties": True}),
        "'additionalProperties: True' is not supported",
        schema(closed()),
    ),
    (
        "no numerical limits",
        schema(closed(n={"type": "integer", "minimum": 1})),
        "For 'number' type, property 'minimum' is not supported",
        schema(closed(n={"type": "integer", "enum": [1, 2]})),
    ),
    (
        "no lengths of strings",
        schema(closed(s={"type": "string", "maxLength": 3})),
        "For 'string' type, property 'maxLength' is not supported",
        schema(closed(s={"type": "string", "format": "date"})),
    ),
    (
        "no lengths of arrays beyond one",
        schema(closed(a={"type": "array", "minItems": 2})),
        "'minItems' values other than 0 or 1 are not supported",
        schema(closed(a={"type": "array", "minItems": 1})),
    ),
    (
        "no maxItems",
        schema(closed(a={"type": "array", "maxItems": 2})),
        "For 'array' type, property 'maxItems' is not supported",
        schema(closed(maxItems={"type": "integer"})),
    ),
    (
        "enums are simple",
        schema(closed(a={"enum": [{"b": 1}]})),
        "Enum values must be",
        schema(closed(a={"enum": ["b", 1, None]})),
    ),
    (
        "no recursion",
        schema(closed(a={"$ref": "#/$defs/a"}) | {"$defs": {"a": {"$ref": "#/$defs/a"}}}),
        "Too many recursive definitions in schema",
        schema(closed(a={"$ref": "#/$defs/a"}) | {"$defs": {"a": {"type": "string"}}}),
    ),
    (
        "definitions count when used",
        schema(closed(a={"anyOf": [{"$ref": "#/$defs/a"}]}) | {"$defs": {"a": {"minLength": 1}}}),
        "property 'minLength' is not supported",
        schema(closed(a={"anyOf": [{"$ref": "#/$defs/a"}]}) | {"$defs": {"a": {"const": 1}}}),
    ),
    (
        "citations on all documents",
        talk(user(text(), document(cited=True), document(cited=False))),
        "citations must be enabled on all or none of the document blocks",
        talk(user(text(), document(cited=True), document(cited=True))),
    ),
    (
        "citations on all search results, in tool results too",
        talk(
            user(),
            assistant(call()),
            user({**result(), "content": [found(cited=True)]}, found(cited=False)),
        ),
        "citations must be enabled on all or none of the search_result blocks",
        talk(
            user(),
            assistant(call()),
            user({**result(), "content": [found(cited=True)]}, found(cited=True)),
        ),
    ),
    (
        "citations without a format",
        {**schema(closed()), "messages": [user(text(), document(cited=True))]},
        "not supported with citations",
        {**schema(closed()), "messages": [user(text(), document(cited=False))]},
    ),
    (
        "no reference to elsewhere",
        schema(closed(a={"$ref": "https://example.com/schema"})),
        "External $ref",
        schema(closed(a={"type": "null"})),
    ),
]


@pytest.mark.parametrize(
    ("refused", "message", "accepted"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_rule_refuses_its_case_and_not_the_neighbour(
    refused: dict[str, Any], message: str, accepted: dict[str, Any]
) -> None:
    error = rules.check(refused)
    assert error is not None
    assert (error.status, error.type) == (400, "invalid_request_error")
    assert message in error.message
    assert rules.check(accepted) is None


def test_every_rule_has_a_case() -> None:
    refused = [case[1] for case in CASES]
    for rule in rules.BODY_RULES:
        assert any(rule(body) for body in refused if shape(body) is None), rule.__name__
    for model_rule in rules.MODEL_RULES:
        pairs = [(body, models.find(body.get("model"))) for body in refused]
        assert any(
            model_rule(body, model)
            for body, model in pairs
            if model is not None and shape(body) is None
        ), model_rule.__name__


@pytest.mark.parametrize(
    "name",
    [
        "claude-opus-5-5",
        "claude-fable-5-2",
        "claude-sonnet-5-5",
        "claude-haiku-5-5",
        "claude-haiku-4-5-20251001",
        "claude-opus-4-20250514",
        "claude-sonnet-4-6[1m]",
    ],
)
def test_models_of_the_five_families_are_known(name: str) -> None:
    assert rules.check(request(model=name)) is None


@pytest.mark.parametrize(
    "name",
    ["gpt-4o", "claude-3-5-haiku", "claude-opus-nonexistent", "claude-opus-5-unknown", "", 7, None],
)
def test_other_models_are_not_found(name: object) -> None:
    error = rules.check(request(model=name))
    assert error == rules.ApiError(404, "not_found_error", f"model: {name}")


def test_a_date_is_no_minor_version() -> None:
    assert models.find("claude-opus-4-20250514") == models.Model("opus", (4, 0))
    assert models.find("claude-haiku-4-5-20251001") == models.Model("haiku", (4, 5))
