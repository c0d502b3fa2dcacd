"""Chat completion requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.core.contract import (
    CompletionRequest,
    FieldNames,
    OutputFormat,
    OutputKind,
)
from bridge.core.validation import missing
from bridge.http_server.context import CallOptions
from bridge.http_server.openai.chat.messages import call_field, decode_messages
from bridge.http_server.openai.chat.wire import ChatCompletionRequest, ResponseFormat
from bridge.http_server.openai.shared.call import (
    EFFORTS,
    Call,
    decode_sampling,
    refuse_blocking,
    wants_usage,
)
from bridge.http_server.openai.shared.content import note_extras
from bridge.http_server.openai.shared.names import names_by
from bridge.http_server.openai.shared.parameters import Ignored, apply_rules
from bridge.http_server.openai.shared.problems import parse
from bridge.http_server.openai.shared.tools import decode_tools

_FIELDS: Final[Mapping[str, str]] = {
    r"effort": "reasoning_effort",
    r"max_output_tokens": "max_completion_tokens",
    r"output_format\.schema": "response_format.json_schema.schema",
    r"output_format": "response_format",
    r"sampling\.(temperature|top_p|stop).*": r"\1",
    r"system": "messages",
    r"tool_choice\.allowed(\[\d+\])": r"tool_choice.allowed_tools.tools\1.function.name",
    r"tool_choice\.mode": "tool_choice",
    r"tool_choice\.name": "tool_choice.function.name",
    r"tools(\[\d+\])\.name": r"tools\1.function.name",
}
_FUNCTION_FIELDS: Final[Mapping[str, str]] = {
    r"tool_choice\.name": "function_call.name",
    r"tools": "functions",
    r"tools(\[\d+\])\.name": r"functions\1.name",
}
"""Those that are others where tools are offered in the deprecated form."""


def decode_chat(body: object, options: CallOptions) -> Call:
    """Decode the body of `POST /v1/chat/completions`."""
    _refuse_responses_shape(body)
    wire = parse(ChatCompletionRequest, body)
    assert isinstance(body, dict)
    ignored = Ignored(strict=options.strict)
    apply_rules(ChatCompletionRequest, body, ignored)
    refuse_blocking(wire.moderation)
    system, messages = decode_messages(wire.messages, ignored)
    tools, tool_choice = decode_tools(wire, ignored)
    sampling = decode_sampling(wire.temperature, wire.top_p, wire.stop, ignored)
    include_usage = wants_usage(wire.stream_options, ignored)
    output_format = _output_format(wire.response_format, ignored)
    request = CompletionRequest(
        messages=messages,
        model=wire.model or None,
        system=system,
        tools=tools,
        tool_choice=tool_choice,
        sampling=sampling,
        max_output_tokens=wire.max_completion_tokens or wire.max_tokens,
        output_format=output_format,
        effort=None if wire.reasoning_effort is None else EFFORTS[wire.reasoning_effort],
        include_thinking=options.include_reasoning or wire.include_reasoning is True,
        whole=wire.stream is not True,
        ignored=ignored.names,
        field_names=_names(wire),
    )
    return Call(
        request,
        stream=wire.stream is True,
        include_usage=include_usage,
        function_call_form=bool(wire.functions),
        metadata=wire.metadata,
    )


def _names(wire: ChatCompletionRequest) -> FieldNames:
    table = {**_FIELDS, **_FUNCTION_FIELDS} if wire.functions else _FIELDS
    if wire.max_completion_tokens is None:
        table = {**table, r"max_output_tokens": "max_tokens"}
    return names_by(table, call_field)


def _refuse_responses_shape(body: object) -> None:
    if isinstance(body, dict) and body.get("messages") is None and "input" in body:
        raise missing(
            "messages", "A request with 'input' is for the Responses API: POST /v1/responses."
        )


def _output_format(wire: ResponseFormat | None, ignored: Ignored) -> OutputFormat:
    if wire is None:
        return OutputFormat()
    kind = OutputKind(wire.type)
    if kind is not OutputKind.JSON_SCHEMA:
        return OutputFormat(kind)
    if wire.json_schema is None:
        raise missing("response_format.json_schema")
    schema = wire.json_schema.schema_
    if schema is None:
        raise missing("response_format.json_schema.schema")
    note_extras(
        wire.json_schema, "response_format.json_schema", "response_format.json_schema", ignored
    )
    if wire.json_schema.description:
        # A schema's own description comes first; this one is for a schema without.
        schema = {"description": wire.json_schema.description, **schema}
    return OutputFormat(kind, wire.json_schema.name or "", schema)
