"""Between the wire messages of bridge.v1 and the neutral model. Pure."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Final, NoReturn, TypeVar, assert_never

from google.protobuf.message import Message as ProtoMessage

from bridge.core import events, model
from bridge.core.errors import InvalidRequestError
from bridge.grpc_server.checks import check_request, json_object
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import model_pb2

_T = TypeVar("_T")

_ROLES: Final[Mapping[int, model.Role]] = {
    pb.ROLE_USER: model.Role.USER,
    pb.ROLE_ASSISTANT: model.Role.ASSISTANT,
}
_TOOL_MODES: Final[Mapping[int, model.ToolMode]] = {
    pb.ToolChoice.MODE_UNSPECIFIED: model.ToolMode.AUTO,
    pb.ToolChoice.MODE_AUTO: model.ToolMode.AUTO,
    pb.ToolChoice.MODE_NONE: model.ToolMode.NONE,
    pb.ToolChoice.MODE_REQUIRED: model.ToolMode.REQUIRED,
    pb.ToolChoice.MODE_NAMED: model.ToolMode.NAMED,
}
_OUTPUT_KINDS: Final[Mapping[int, model.OutputKind]] = {
    pb.OutputFormat.KIND_UNSPECIFIED: model.OutputKind.TEXT,
    pb.OutputFormat.KIND_TEXT: model.OutputKind.TEXT,
    pb.OutputFormat.KIND_JSON_OBJECT: model.OutputKind.JSON_OBJECT,
    pb.OutputFormat.KIND_JSON_SCHEMA: model.OutputKind.JSON_SCHEMA,
}
_EFFORTS: Final[Mapping[int, model.Effort | None]] = {
    pb.EFFORT_UNSPECIFIED: None,
    pb.EFFORT_NONE: model.Effort.NONE,
    pb.EFFORT_LOW: model.Effort.LOW,
    pb.EFFORT_MEDIUM: model.Effort.MEDIUM,
    pb.EFFORT_HIGH: model.Effort.HIGH,
    pb.EFFORT_XHIGH: model.Effort.XHIGH,
    pb.EFFORT_MAX: model.Effort.MAX,
}
_FINISH_REASONS: Final[Mapping[model.FinishReason, pb.FinishReason.ValueType]] = {
    model.FinishReason.STOP: pb.FINISH_REASON_STOP,
    model.FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    model.FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    model.FinishReason.REFUSAL: pb.FINISH_REASON_REFUSAL,
}


def decode_request(
    request: pb.CompleteRequest,
    *,
    request_id: str = "",
    caller: str = "",
    timeout: float | None = None,
) -> model.CompletionRequest:
    """Read a request; raises InvalidRequestError, which names the field by its proto path."""
    decoded = model.CompletionRequest(
        messages=tuple(_message(m, f"messages[{i}]") for i, m in enumerate(request.messages)),
        model=request.model or None,
        system=request.system or None,
        tools=_tools(request),
        tool_choice=_tool_choice(request.tool_choice),
        sampling=_sampling(request.sampling),
        max_output_tokens=_optional(request, "max_output_tokens", request.max_output_tokens),
        output_format=_output_format(request.output_format),
        effort=_looked_up(_EFFORTS, request.effort, "effort"),
        include_thinking=request.include_thinking,
        timeout=timeout,
        strict=request.strict,
        request_id=request_id,
        caller=caller,
        door="grpc",
    )
    check_request(decoded)
    return _with_allowed(decoded, request.tool_choice.allowed)


def _message(message: pb.Message, path: str) -> model.Message:
    role = _looked_up(_ROLES, message.role, f"{path}.role")
    parts = tuple(_part(part, f"{path}.parts[{i}]") for i, part in enumerate(message.parts))
    return model.Message(role, parts, origin=path)


def _part(part: pb.Part, path: str) -> model.Part:
    match part.WhichOneof("part"):
        case "text":
            return model.TextPart(part.text)
        case "image":
            return model.ImagePart(_source(part.image, f"{path}.image"))
        case "document":
            source = _source(part.document, f"{path}.document")
            return model.DocumentPart(source, part.document.title or None)
        case "tool_call":
            call = part.tool_call
            return model.ToolCallPart(call.id, call.name, call.arguments_json)
        case "tool_result":
            return _tool_result(part.tool_result, f"{path}.tool_result")
        case None:
            _refuse("A part needs exactly one kind that this server knows.", path)
        case never:
            assert_never(never)


def _tool_result(result: pb.ToolResult, path: str) -> model.ToolResultPart:
    content: list[model.TextPart | model.ImagePart] = []
    for index, piece in enumerate(result.content):
        piece_path = f"{path}.content[{index}]"
        part = _part(piece, piece_path)
        if not isinstance(part, model.TextPart | model.ImagePart):
            _refuse("A tool result holds text and images only.", piece_path)
        content.append(part)
    return model.ToolResultPart(result.call_id, tuple(content), result.is_error)


def _source(holder: pb.Image | pb.Document, path: str) -> model.InlineData | model.UrlSource:
    match holder.WhichOneof("source"):
        case "data":
            data = b64encode(holder.data.content).decode("ascii")
            return model.InlineData(holder.data.media_type, data)
        case "url":
            return model.UrlSource(holder.url)
        case None:
            _refuse("Either data or url is needed.", path)
        case never:
            assert_never(never)


def _tools(request: pb.CompleteRequest) -> tuple[model.Tool, ...]:
    return tuple(
        model.Tool(
            tool.name,
            tool.description,
            _optional_object(tool.parameters_json, f"tools[{index}].parameters_json") or {},
        )
        for index, tool in enumerate(request.tools)
    )


def _tool_choice(choice: pb.ToolChoice) -> model.ToolChoice:
    return model.ToolChoice(
        mode=_looked_up(_TOOL_MODES, choice.mode, "tool_choice.mode"),
        name=choice.name or None,
        parallel=not choice.disable_parallel,
    )


def _with_allowed(
    request: model.CompletionRequest, allowed: Iterable[str]
) -> model.CompletionRequest:
    """Hold back the tools that are not allowed."""
    kept = list(allowed)
    if not kept:
        return request
    on_offer = {tool.name for tool in request.tools}
    for index, name in enumerate(kept):
        if name not in on_offer:
            _refuse("No tool on offer has this name.", f"tool_choice.allowed[{index}]")
    if request.tool_choice.mode is model.ToolMode.NAMED and request.tool_choice.name not in kept:
        _refuse("The named tool is not among those allowed.", "tool_choice.name")
    return replace(request, tools=tuple(tool for tool in request.tools if tool.name in kept))


def _sampling(sampling: pb.Sampling) -> model.Sampling:
    return model.Sampling(
        temperature=_optional(sampling, "temperature", sampling.temperature),
        top_p=_optional(sampling, "top_p", sampling.top_p),
        stop=tuple(sampling.stop),
    )


def _output_format(output: pb.OutputFormat) -> model.OutputFormat:
    return model.OutputFormat(
        kind=_looked_up(_OUTPUT_KINDS, output.kind, "output_format.kind"),
        name=output.name,
        schema=_optional_object(output.schema_json, "output_format.schema_json"),
    )


def _optional_object(text: str, path: str) -> model.JsonObject | None:
    return json_object(text, path) if text else None


def _optional(message: ProtoMessage, field: str, value: _T) -> _T | None:
    return value if message.HasField(field) else None


def _looked_up(table: Mapping[int, _T], number: int, path: str) -> _T:
    try:
        return table[number]
    except KeyError:
        _refuse(f"{path} has no value {number} that a request may use.", path)


def _refuse(message: str, path: str) -> NoReturn:
    raise InvalidRequestError(message, field=path)


def encode_event(event: events.Event, request_id: str) -> tuple[pb.CompleteResponse, ...]:
    """Write an event. `Finished` is preceded by the usage as an event of its own."""
    try:
        return _encoded(event, request_id)
    except UnicodeEncodeError:
        # JSON can carry half of a surrogate pair, protobuf cannot.
        return _encoded(_encodable(event), request_id)


def _encoded(event: events.Event, request_id: str) -> tuple[pb.CompleteResponse, ...]:
    match event:
        case events.TextDelta(text):
            return (pb.CompleteResponse(text_delta=pb.TextDelta(text=text)),)
        case events.ThinkingDelta(text):
            return (pb.CompleteResponse(thinking_delta=pb.ThinkingDelta(text=text)),)
        case events.ToolCallDelta(index, arguments):
            delta = pb.ToolCallDelta(index=index, arguments_json=arguments)
            return (pb.CompleteResponse(tool_call_delta=delta),)
        case events.ToolCallStart(index, call_id, name):
            call = pb.ToolCallStart(index=index, id=call_id, name=name)
            return (pb.CompleteResponse(tool_call_start=call),)
        case events.Started(answering, ignored):
            started = pb.Started(request_id=request_id, model=answering, ignored_params=ignored)
            return (pb.CompleteResponse(started=started),)
        case events.Finished(reason, usage, stop_sequence):
            wire_usage = encode_usage(usage)
            finished = pb.Finished(
                reason=_FINISH_REASONS[reason],
                usage=wire_usage,
                stop_sequence=stop_sequence or "",
            )
            return (pb.CompleteResponse(usage=wire_usage), pb.CompleteResponse(finished=finished))
        case never:
            assert_never(never)


def _encodable(event: events.Event) -> events.Event:
    texts = {
        field.name: value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for field in fields(event)
        if type(value := getattr(event, field.name)) is str
    }
    return replace(event, **texts)  # type: ignore[arg-type]


def encode_usage(usage: model.Usage) -> pb.Usage:
    """Write the tokens used."""
    return pb.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        thinking_tokens=usage.thinking_tokens,
    )


def encode_model(offered: model.Model) -> model_pb2.Model:
    """Write a model on offer."""
    return model_pb2.Model(
        id=offered.id,
        resolved_model=offered.resolved,
        display_name=offered.display_name,
        description=offered.description,
        efforts=offered.efforts,
        is_default=offered.default,
    )
