"""Requests as each API writes them down, out of their neutral form."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from bridge.core.contract.request import (
    CompletionRequest,
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    OutputFormat,
    OutputKind,
    Part,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolMode,
    ToolResultPart,
    UrlSource,
)
from bridge.v1 import completion_pb2 as pb

Json = dict[str, Any]


def address(source: InlineData | UrlSource) -> str:
    if isinstance(source, UrlSource):
        return source.url
    return f"data:{source.media_type};base64,{source.base64}"


def without_nulls(**values: object) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def chat_body(request: CompletionRequest) -> Json:
    choice = request.tool_choice
    chosen: object = choice.mode.value
    if choice.mode is ToolMode.NAMED:
        chosen = {"type": "function", "function": {"name": choice.name or ""}}
    elif choice.allowed:
        tools = [{"function": {"name": name}} for name in choice.allowed]
        allowed = {"mode": choice.mode.value, "tools": tools}
        chosen = {"type": "allowed_tools", "allowed_tools": allowed}
    output = request.output_format
    schema = {"json_schema": without_nulls(name="it", schema=output.schema)}
    return without_nulls(
        messages=[line for message in request.messages for line in chat_messages(message)],
        tools=[{"type": "function", "function": flat_tool(tool)} for tool in request.tools],
        tool_choice=chosen,
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        stop=list(request.sampling.stop) or None,
        max_tokens=request.max_output_tokens,
        response_format={"type": output.kind.value}
        | (schema if output.kind is OutputKind.JSON_SCHEMA else {}),
    )


def flat_tool(tool: Tool) -> Json:
    return {"name": tool.name, "parameters": dict(tool.parameters)}


def chat_messages(message: Message) -> list[Json]:
    """A message of one part each, which the decoder puts together again."""
    lines: list[Json] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            content = [chat_part(piece) for piece in part.content]
            lines.append({"role": "tool", "tool_call_id": part.call_id, "content": content})
        elif isinstance(part, ToolCallPart):
            function = {"name": part.name, "arguments": part.arguments}
            calls = [{"id": part.id, "type": "function", "function": function}]
            lines.append({"role": "assistant", "tool_calls": calls})
        else:
            lines.append({"role": message.role.value, "content": [chat_part(part)]})
    return lines


def chat_part(part: Part) -> Json:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(source):
            return {"type": "image_url", "image_url": {"url": address(source)}}
        case DocumentPart(source):
            return {"type": "file", "file": {"file_data": address(source)}}
        case _:
            raise AssertionError(part)


def responses_body(request: CompletionRequest) -> Json:
    choice = request.tool_choice
    chosen: object = choice.mode.value
    if choice.mode is ToolMode.NAMED:
        chosen = {"type": "function", "name": choice.name or ""}
    elif choice.allowed:
        tools = [{"type": "function", "name": name} for name in choice.allowed]
        chosen = {"type": "allowed_tools", "mode": choice.mode.value, "tools": tools}
    output: OutputFormat = request.output_format
    return without_nulls(
        input=[item for message in request.messages for item in items(message)],
        tools=[flat_tool(tool) for tool in request.tools],
        tool_choice=chosen,
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        max_output_tokens=request.max_output_tokens,
        text={"format": without_nulls(type=output.kind.value, schema=output.schema)},
    )


def items(message: Message) -> list[Json]:
    lines: list[Json] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            output = [item_part(piece, Role.USER) for piece in part.content]
            lines.append(
                {"type": "function_call_output", "call_id": part.call_id, "output": output}
            )
        elif isinstance(part, ToolCallPart):
            call = {"call_id": part.id, "name": part.name, "arguments": part.arguments}
            lines.append({"type": "function_call", **call})
        else:
            lines.append({"role": message.role.value, "content": [item_part(part, message.role)]})
    return lines


def item_part(part: Part, role: Role) -> Json:
    match part:
        case TextPart(text):
            kind = "input_text" if role is Role.USER else "output_text"
            return {"type": kind, "text": text}
        case ImagePart(source):
            return {"type": "input_image", "image_url": address(source)}
        case DocumentPart(source):
            return {"type": "input_file", "file_data": address(source)}
        case _:
            raise AssertionError(part)


def proto(request: CompletionRequest) -> pb.CompleteRequest:
    choice, output = request.tool_choice, request.output_format
    return pb.CompleteRequest(
        messages=[
            pb.Message(
                role=pb.ROLE_USER if message.role is Role.USER else pb.ROLE_ASSISTANT,
                parts=[proto_part(part) for part in message.parts],
            )
            for message in request.messages
        ],
        tools=[
            pb.Tool(name=tool.name, parameters_json=json.dumps(dict(tool.parameters)))
            for tool in request.tools
        ],
        tool_choice=pb.ToolChoice(
            mode=pb.ToolChoice.Mode.Value(f"MODE_{choice.mode.name}"),
            name=choice.name or "",
            allowed=choice.allowed,
        ),
        sampling=pb.Sampling(
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            stop=request.sampling.stop,
        ),
        max_output_tokens=request.max_output_tokens,
        output_format=pb.OutputFormat(
            kind=pb.OutputFormat.Kind.Value(f"KIND_{output.kind.name}"),
            schema_json="" if output.schema is None else json.dumps(dict(output.schema)),
        ),
    )


def proto_part(part: Part) -> pb.Part:
    match part:
        case TextPart(text):
            return pb.Part(text=text)
        case ImagePart(UrlSource(url)):
            return pb.Part(image=pb.Image(url=url))
        case ImagePart(InlineData() as data):
            return pb.Part(image=pb.Image(data=blob(data)))
        case DocumentPart(InlineData() as data):
            return pb.Part(document=pb.Document(data=blob(data)))
        case ToolCallPart(id=call_id, name=name, arguments=arguments):
            call = pb.ToolCall(id=call_id, name=name, arguments_json=arguments)
            return pb.Part(tool_call=call)
        case ToolResultPart(call_id=call_id, content=content):
            pieces = [proto_part(piece) for piece in content]
            return pb.Part(tool_result=pb.ToolResult(call_id=call_id, content=pieces))
        case _:
            raise AssertionError(part)


def blob(data: InlineData) -> pb.Blob:
    return pb.Blob(media_type=data.media_type, content=b64decode(data.base64))
