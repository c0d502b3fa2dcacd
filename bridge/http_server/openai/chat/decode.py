"""Chat completion requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bridge.core.contract import CompletionRequest, Faults, FieldNames, OutputFormat, OutputKind
from bridge.core.validation import missing
from bridge.http_server.context import REASONING_HEADER, CallOptions, ReasoningDisplay
from bridge.http_server.openai.chat.messages import call_field, decode_messages
from bridge.http_server.openai.chat.tools import decode_tools
from bridge.http_server.openai.chat.wire import (
    ChatCompletionRequest,
    JSONSchemaFormat,
    ResponseFormat,
)
from bridge.http_server.openai.shared.call import (
    EFFORTS,
    Call,
    decode_sampling,
    refuse_blocking,
    wants_usage,
)
from bridge.http_server.wire import Ignored, apply_rules, names_by, parse

_FIELDS: Final[Mapping[str, str]] = {
    r"effort": "reasoning_effort",
    r"include_thinking": "include_reasoning",
    r"labels": "metadata",
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
    ignored = Ignored(strict=options.strict)
    faults = Faults()
    with faults:
        refuse_blocking(wire.moderation)
    with faults:
        system, messages = decode_messages(wire.messages)
    with faults:
        tools, tool_choice = decode_tools(wire)
    with faults:
        sampling = decode_sampling(wire.temperature, wire.top_p, wire.stop, ignored)
    include_usage = wants_usage(wire.stream_options)
    output_format = _output_format(wire.response_format)
    with faults:
        apply_rules(wire, body, ignored)
    faults.raise_any()
    display = _reasoning(wire, options)
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
        include_thinking=display is not ReasoningDisplay.OMIT,
        thinking_by_default=display is ReasoningDisplay.CHAT_DEFAULT,
        whole=wire.stream is not True,
        labels=wire.metadata or {},
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


def _reasoning(wire: ChatCompletionRequest, options: CallOptions) -> ReasoningDisplay:
    if wire.include_reasoning is True:
        return ReasoningDisplay.ASKED
    declined = wire.include_reasoning is False and options.reasoning is not ReasoningDisplay.ASKED
    return ReasoningDisplay.OMIT if declined else options.reasoning


def _names(wire: ChatCompletionRequest) -> FieldNames:
    table = {**_FIELDS, **_FUNCTION_FIELDS} if wire.functions else _FIELDS
    if wire.max_completion_tokens is None:
        table = {**table, r"max_output_tokens": "max_tokens"}
    if wire.include_reasoning is not True:
        table = {**table, r"include_thinking": REASONING_HEADER}
    return names_by(table, call_field)


def _refuse_responses_shape(body: object) -> None:
    if isinstance(body, dict) and body.get("messages") is None and "input" in body:
        raise missing(
            "messages", "A request with 'input' is for the Responses API: POST /v1/responses."
        )


def _output_format(wire: ResponseFormat | None) -> OutputFormat:
    if wire is None:
        return OutputFormat()
    kind = OutputKind(wire.type)
    if not isinstance(wire, JSONSchemaFormat):
        return OutputFormat(kind)
    schema = wire.json_schema.schema_
    if wire.json_schema.description:
        # Only for a schema without its own description.
        schema = {"description": wire.json_schema.description, **schema}
    return OutputFormat(kind, wire.json_schema.name or "", schema)
