"""Decodes messages of bridge.v1 to the core's types. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias, TypeVar, assert_never

from google.protobuf.message import Message as ProtoMessage

from bridge.core import contract
from bridge.core.contract import BOUNDS, InvalidRequestError
from bridge.core.validation import (
    bad_result,
    check_count,
    check_sampling,
    invalid,
    json_object,
    media_misplaced,
    missing,
    validate_opening,
)
from bridge.grpc_server.wire.encode import EFFORTS
from bridge.grpc_server.wire.field_names import COMPLETION, field_name_of, not_one
from bridge.grpc_server.wire.unknown_fields import unknown_fields
from bridge.v1 import completion_pb2 as pb

_T = TypeVar("_T")

_ROLES: Final[Mapping[int, contract.Role]] = {
    pb.ROLE_USER: contract.Role.USER,
    pb.ROLE_ASSISTANT: contract.Role.ASSISTANT,
    # In the user's turn, as a `system_part`.
    pb.ROLE_SYSTEM: contract.Role.USER,
}
_TOOL_MODES: Final[Mapping[int, contract.ToolMode]] = {
    pb.ToolChoice.MODE_UNSPECIFIED: contract.ToolMode.AUTO,
    pb.ToolChoice.MODE_AUTO: contract.ToolMode.AUTO,
    pb.ToolChoice.MODE_NONE: contract.ToolMode.NONE,
    pb.ToolChoice.MODE_REQUIRED: contract.ToolMode.REQUIRED,
    pb.ToolChoice.MODE_NAMED: contract.ToolMode.NAMED,
}
_OUTPUT_KINDS: Final[Mapping[int, contract.OutputKind]] = {
    pb.OutputFormat.KIND_UNSPECIFIED: contract.OutputKind.TEXT,
    pb.OutputFormat.KIND_TEXT: contract.OutputKind.TEXT,
    pb.OutputFormat.KIND_JSON_OBJECT: contract.OutputKind.JSON_OBJECT,
    pb.OutputFormat.KIND_JSON_SCHEMA: contract.OutputKind.JSON_SCHEMA,
}
_EFFORTS: Final[Mapping[int, contract.Effort | None]] = {
    pb.EFFORT_UNSPECIFIED: None,
    **{value: contract.Effort(name) for name, value in EFFORTS.items()},
}

OPEN: Final = f"open.{COMPLETION}"

SingleRequest: TypeAlias = pb.CompleteRequest | pb.CreateCompletionRequest | pb.CountTokensRequest
"""A request for one answer."""


def decode_request(
    request: SingleRequest,
    *,
    request_id: str = "",
    caller: str = "",
    timeout: float | None = None,
) -> contract.CompletionRequest:
    """Decode a request; raises InvalidRequestError, which names the field by its proto path."""
    spec = request.completion
    decoded = _settings(spec, caller, COMPLETION)
    if spec.messages and not decoded.messages:
        messages = f"{COMPLETION}messages"
        _refuse(f"'{messages}' has no user message. Add a message of ROLE_USER.", messages)
    unknown = unknown_fields(request, strict=spec.strict)
    decoded = replace(decoded, request_id=request_id, timeout=timeout, ignored=unknown)
    if isinstance(request, pb.CountTokensRequest):
        return decoded
    return replace(decoded, client_request_id=request.request_id, labels=dict(request.labels))


def decode_conversation(
    request: pb.ConverseRequest, *, caller: str = ""
) -> contract.CompletionRequest:
    """Decode the opening of a conversation: a request whose messages are the history.

    Raises what `validate` raises; fields are named as `open.completion.model`.
    """
    decoded = _settings(request.open.completion, caller, OPEN)
    unknown = unknown_fields(request, strict=decoded.strict)
    decoded = replace(decoded, ignored=unknown, labels=dict(request.open.labels))
    if decoded.messages and decoded.messages[-1].role is not contract.Role.ASSISTANT:
        _refuse("The last message must be from the model.", decoded.messages[-1].origin)
    validate_opening(decoded)
    return decoded


def overridden(
    request: contract.CompletionRequest, overrides: pb.TurnOverrides, path: str
) -> contract.CompletionRequest:
    """Apply the settings of one turn; `path` is what they are called in errors."""
    prefix = f"{path}."
    changes: dict[str, Any] = {}
    if overrides.HasField("tool_choice"):
        changes["tool_choice"] = _tool_choice(overrides.tool_choice, prefix)
    if overrides.HasField("max_output_tokens"):
        changes["max_output_tokens"] = overrides.max_output_tokens
    if overrides.HasField("output_format"):
        changes["output_format"] = _output_format(overrides.output_format, prefix)
    if overrides.effort:
        changes["effort"] = _looked_up(
            _EFFORTS, pb.Effort.Name, overrides.effort, f"{prefix}effort"
        )

    def field_name(place: contract.Place) -> str:
        changed = not place.origin and place.path.partition(".")[0] in changes
        return field_name_of(prefix, place) if changed else request.field_names(place)

    return replace(request, field_names=field_name, **changes)


def with_request_id(
    request: contract.CompletionRequest, id: str, path: str
) -> contract.CompletionRequest:
    """Give one turn an id of its caller's; `path` is what that is called in errors."""

    def field_name(place: contract.Place) -> str:
        return path if place.path == "client_request_id" else request.field_names(place)

    return replace(request, client_request_id=id, field_names=field_name)


def decode_said(message: pb.UserMessage) -> contract.Message:
    """Decode the user's message in a conversation."""
    _counted_parts(message.parts, "message")
    parts = tuple(_part(part, f"message.parts[{i}]") for i, part in enumerate(message.parts))
    for index, part in enumerate(parts):
        if isinstance(part, contract.ToolResultPart):
            _refuse("Send tool results in tool_results.", f"message.parts[{index}].tool_result")
    return contract.Message(contract.Role.USER, parts, origin="message")


def decode_system(message: pb.UserMessage) -> contract.Message:
    """Read the system message before what the user says."""
    part = contract.system_part([message.system])
    return contract.Message(contract.Role.USER, (part,), origin="message.system")


def decode_results(results: pb.ToolResults) -> Iterator[contract.ToolResultPart]:
    """Decode tool results."""
    if not results.results:
        _refuse("Send at least one result.", "tool_results.results")
    count = len(results.results)
    if count <= BOUNDS.parts:
        count += sum(len(result.content) for result in results.results)
    check_count("parts in one message", count, BOUNDS.parts, "tool_results.results")
    for index, result in enumerate(results.results):
        yield _tool_result(result, f"tool_results.results[{index}]")


def _settings(settings: pb.CompletionSpec, caller: str, prefix: str) -> contract.CompletionRequest:
    _check_counts(settings, prefix)
    faults = contract.Faults()
    messages: list[contract.Message] = []
    for index, message in enumerate(settings.messages):
        with faults:
            messages.append(_message(message, f"{prefix}messages[{index}]"))
    tools: list[contract.Tool] = []
    for index, tool in enumerate(settings.tools):
        with faults:
            tools.append(_tool(tool, f"{prefix}tools[{index}]"))
    with faults:
        tool_choice = _tool_choice(settings.tool_choice, prefix)
    with faults:
        output_format = _output_format(settings.output_format, prefix)
    with faults:
        effort = _looked_up(_EFFORTS, pb.Effort.Name, settings.effort, f"{prefix}effort")
    names = partial(field_name_of, prefix)
    sampling = _sampling(settings.sampling)
    max_output_tokens = _optional(settings, "max_output_tokens", settings.max_output_tokens)
    if faults:
        # The other rules need all of a request, and are checked if it can be decoded.
        with faults:
            check_sampling(sampling, max_output_tokens, names)
        faults.raise_any()
    system, placed = contract.placed(settings.system, messages)
    return contract.CompletionRequest(
        messages=placed,
        model=settings.model or None,
        system=system,
        tools=tuple(tools),
        tool_choice=tool_choice,
        sampling=sampling,
        max_output_tokens=max_output_tokens,
        output_format=output_format,
        effort=effort,
        include_thinking=settings.include_thinking,
        strict=settings.strict,
        include_cost=settings.include_cost,
        caller=caller,
        api="grpc",
        field_names=names,
    )


def _check_counts(settings: pb.CompletionSpec, prefix: str) -> None:
    """Refuse too many parts before any is decoded: millions fit into a message."""
    check_count("tools", len(settings.tools), BOUNDS.tools, f"{prefix}tools")
    messages = f"{prefix}messages"
    check_count("messages", len(settings.messages), BOUNDS.messages, messages)
    total = 0
    for index, message in enumerate(settings.messages):
        total += _counted_parts(message.parts, f"{messages}[{index}]")
        check_count("parts in all messages", total, BOUNDS.all_parts, messages)


def _counted_parts(parts: Sequence[pb.Part], path: str) -> int:
    count = len(parts)
    if count <= BOUNDS.parts:
        count += sum(len(part.tool_result.content) for part in parts)
    check_count("parts in one message", count, BOUNDS.parts, path)
    return count


def _message(message: pb.Message, path: str) -> contract.Message:
    role = _looked_up(_ROLES, pb.Role.Name, message.role, f"{path}.role")
    parts = tuple(_part(part, f"{path}.parts[{i}]") for i, part in enumerate(message.parts))
    if message.role == pb.ROLE_SYSTEM and parts:
        parts = (contract.system_part(_texts(parts)),)
    return contract.Message(role, parts, origin=path)


def _texts(parts: Sequence[contract.Part]) -> Iterator[str]:
    for part in parts:
        match part:
            case contract.TextPart(text):
                yield text
            case contract.ImagePart() | contract.DocumentPart():
                raise media_misplaced(part.origin)
            case _:
                _refuse("A system message may contain text only.", part.origin)


def _part(part: pb.Part, path: str) -> contract.Part:
    match part.WhichOneof("part"):
        case "text":
            return contract.TextPart(part.text)
        case "image":
            path = f"{path}.image"
            return contract.ImagePart(_source(part.image, path), origin=path)
        case "document":
            path = f"{path}.document"
            source = _source(part.document, path)
            return contract.DocumentPart(source, part.document.title or None, origin=path)
        case "tool_call":
            call = part.tool_call
            return contract.ToolCallPart(
                call.id, call.name, call.arguments_json, origin=f"{path}.tool_call"
            )
        case "tool_result":
            return _tool_result(part.tool_result, f"{path}.tool_result")
        case None:
            raise not_one(part, "part", path)
        case never:
            assert_never(never)


def _tool_result(result: pb.ToolResult, path: str) -> contract.ToolResultPart:
    content: list[contract.TextPart | contract.ImagePart | contract.DocumentPart] = []
    for index, piece in enumerate(result.content):
        piece_path = f"{path}.content[{index}]"
        part = _part(piece, piece_path)
        if not isinstance(part, contract.TextPart | contract.ImagePart | contract.DocumentPart):
            raise bad_result(piece_path)
        content.append(part)
    return contract.ToolResultPart(result.call_id, tuple(content), result.is_error, origin=path)


def _source(holder: pb.Image | pb.Document, path: str) -> contract.InlineData | contract.UrlSource:
    match holder.WhichOneof("source"):
        case "data":
            data = b64encode(holder.data.content).decode("ascii")
            return contract.InlineData(holder.data.media_type, data)
        case "url":
            return contract.UrlSource(holder.url)
        case None:
            raise not_one(holder, "source", path)
        case never:
            assert_never(never)


def _tool(tool: pb.Tool, path: str) -> contract.Tool:
    parameters = _optional_object(tool.parameters_json, f"{path}.parameters_json")
    return contract.Tool(tool.name, tool.description, parameters or {})


def _tool_choice(choice: pb.ToolChoice, prefix: str) -> contract.ToolChoice:
    return contract.ToolChoice(
        mode=_looked_up(
            _TOOL_MODES, pb.ToolChoice.Mode.Name, choice.mode, f"{prefix}tool_choice.mode"
        ),
        name=choice.name or None,
        parallel=not choice.disable_parallel,
        allowed=tuple(choice.allowed),
    )


def _sampling(sampling: pb.Sampling) -> contract.Sampling:
    return contract.Sampling(
        temperature=_optional(sampling, "temperature", sampling.temperature),
        top_p=_optional(sampling, "top_p", sampling.top_p),
        stop=tuple(sampling.stop),
        top_k=_optional(sampling, "top_k", sampling.top_k),
    )


def _output_format(output: pb.OutputFormat, prefix: str) -> contract.OutputFormat:
    return contract.OutputFormat(
        kind=_looked_up(
            _OUTPUT_KINDS, pb.OutputFormat.Kind.Name, output.kind, f"{prefix}output_format.kind"
        ),
        name=output.name,
        schema=_optional_object(output.schema_json, f"{prefix}output_format.schema_json"),
    )


def _optional_object(text: str, path: str) -> contract.JsonObject | None:
    return json_object(text, path) if text else None


def _optional(message: ProtoMessage, field: str, value: _T) -> _T | None:
    return value if message.HasField(field) else None


def _looked_up(table: Mapping[int, _T], name: Callable[..., str], number: int, path: str) -> _T:
    """Map an enum value; `name` returns the names of the enum's values."""
    try:
        return table[number]
    except KeyError:
        if number == 0:
            raise missing(path) from None
        # Without the unspecified value, number 0.
        raise invalid(path, " or ".join(name(value) for value in table if value)) from None


def _refuse(message: str, path: str) -> NoReturn:
    raise InvalidRequestError(message, field=path)
