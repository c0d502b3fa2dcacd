"""Requests of the Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bridge.core.contract import (
    CompletionRequest,
    Effort,
    Faults,
    FieldNames,
    Message,
    OutputFormat,
    OutputKind,
    Sampling,
    Tool,
    UnsupportedError,
)
from bridge.core.validation import invalid, missing
from bridge.http_server.anthropic.messages.history import decode_history, referenced_tools
from bridge.http_server.anthropic.messages.tools import decode_choice, decode_tools
from bridge.http_server.anthropic.messages.wire import MessagesRequest, ThinkingConfig
from bridge.http_server.context import CallOptions, ReasoningDisplay
from bridge.http_server.wire import Ignored, apply_rules, names_by, parse

_FIELDS: Final[Mapping[str, str]] = {
    r"effort": "output_config.effort",
    r"include_thinking": "thinking",
    r"labels": "metadata",
    r"max_output_tokens": "max_tokens",
    r"messages\.parts\.thinking": "messages.content.thinking",
    r"output_format\.schema": "output_config.format.schema",
    r"output_format": "output_config.format",
    r"sampling\.stop.*": "stop_sequences",
    r"sampling\.(temperature|top_p|top_k)": r"\1",
    r"tool_choice\.mode": "tool_choice",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A message that is asked for, with what concerns its reply only."""

    request: CompletionRequest
    stream: bool = False
    omit_thinking: bool = False
    """Whether only the signatures of the thinking are sent."""


def decode_message_request(body: object, options: CallOptions, *, counting: bool = False) -> Call:
    """Decode the body of `POST /v1/messages`; if only `counting`, it needs no `max_tokens`."""
    wire = parse(MessagesRequest, body)
    _check(wire, counting=counting)
    ignored = Ignored(strict=options.strict)
    faults = Faults()
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    system, thinking = None, None
    labels: Mapping[str, str] = {}
    with faults:
        system, messages = decode_history(wire, ignored)
    with faults:
        tools = decode_tools(wire.tools or (), referenced_tools(wire.messages), ignored)
    with faults:
        thinking = _thinking(wire.thinking, ignored)
    with faults:
        labels = _labels(wire)
    with faults:
        apply_rules(wire, body, ignored)
    faults.raise_any()
    effort = None if wire.output_config is None else wire.output_config.effort
    shown = thinking is True or options.reasoning is ReasoningDisplay.ASKED
    request = CompletionRequest(
        messages=messages,
        model=wire.model or None,
        system=system,
        tools=tools,
        tool_choice=decode_choice(wire.tool_choice),
        sampling=Sampling(wire.temperature, wire.top_p, _stop_texts(wire), wire.top_k),
        max_output_tokens=wire.max_tokens,
        output_format=_output_format(wire),
        effort=None if effort is None else Effort(effort),
        thinking=thinking if thinking is False else None,
        include_thinking=shown,
        include_signatures=shown,
        whole=wire.stream is not True,
        labels=labels,
        ignored=ignored.names,
        field_names=_NAMES,
    )
    omits = wire.thinking is not None and wire.thinking.display == "omitted"
    return Call(request, stream=wire.stream is True, omit_thinking=omits)


def _check(wire: MessagesRequest, *, counting: bool) -> None:
    """Raise for what no other field can make good."""
    if wire.max_tokens is None and not counting:
        raise missing("max_tokens")
    if wire.thread is not None:
        # By this reason, clients send the whole conversation instead.
        raise UnsupportedError(
            "This server keeps no threads. Send the whole conversation without 'thread'.",
            field="thread",
            reason="THREAD_UNSUPPORTED_REQUEST",
        )


def _thinking(config: ThinkingConfig | None, ignored: Ignored) -> bool | None:
    """Return whether thinking is asked for; None if nothing is said of it."""
    if config is None:
        return None
    if config.type == "between_tools":
        ignored.add("thinking.type", why="'between_tools' has no effect on this server")
    return config.type != "disabled"


def _labels(wire: MessagesRequest) -> Mapping[str, str]:
    user = (wire.metadata or {}).get("user_id")
    if user is None:
        return {}
    if not isinstance(user, str):
        raise invalid("metadata.user_id", "a string")
    return {"user_id": user}


def _stop_texts(wire: MessagesRequest) -> tuple[str, ...]:
    return tuple(text for text in wire.stop_sequences or () if text)


def _output_format(wire: MessagesRequest) -> OutputFormat:
    form = wire.output_config.format if wire.output_config is not None else None
    form = form or wire.output_format
    if form is None:
        return OutputFormat()
    return OutputFormat(OutputKind.JSON_SCHEMA, schema=form.schema_)


def _call_field(where: str, rest: str) -> str:
    """Name what belongs to a call or to its result, which is the block `where`."""
    match rest:
        case ".tool_call.name":
            return f"{where}.name"
        case ".tool_call.arguments":
            return f"{where}.input"
        case ".tool_result":
            return f"{where}.tool_use_id"
        case _:
            return f"{where}.id"


_NAMES: Final[FieldNames] = names_by(_FIELDS, _call_field)
