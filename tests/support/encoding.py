"""Requests as each API writes them down, out of their neutral form."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable
from itertools import groupby
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
        messages=chat_messages(request.messages, request.system),
        tools=[chat_tool(tool) for tool in request.tools],
        tool_choice=chosen,
        temperature=request.sampling.temperature,
        top_p=request.sampling.top_p,
        stop=list(request.sampling.stop) or None,
        max_tokens=request.max_output_tokens,
        metadata=dict(request.labels) or None,
        response_format={"type": output.kind.value}
        | (schema if output.kind is OutputKind.JSON_SCHEMA else {}),
    )


def flat_tool(tool: Tool) -> Json:
    return without_nulls(
        name=tool.name, description=tool.description or None, parameters=dict(tool.parameters)
    )


def chat_tool(tool: Tool) -> Json:
    return {"type": "function", "function": flat_tool(tool)}


def chat_messages(messages: Iterable[Message], system: str | None = None) -> list[Json]:
    """Messages as OpenAI's clients write them."""
    lines: list[Json] = [{"role": "system", "content": system}] if system else []
    for message in messages:
        lines += _answered(message) if message.role is Role.ASSISTANT else _asked(message)
    return lines


def _asked(message: Message) -> list[Json]:
    lines: list[Json] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            content = [chat_part(piece) for piece in part.content]
            lines.append({"role": "tool", "tool_call_id": part.call_id, "content": content})
        elif isinstance(part, TextPart) and part.system:
            lines.append({"role": "developer", "content": part.text})
        elif lines and lines[-1]["role"] == "user":
            lines[-1]["content"].append(chat_part(part))
        else:
            lines.append({"role": "user", "content": [chat_part(part)]})
    return lines


def _answered(message: Message) -> list[Json]:
    said = [part for part in message.parts if not isinstance(part, ToolCallPart)]
    calls = [
        {
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    texts = [part.text for part in said if isinstance(part, TextPart)]
    content: object = "".join(texts) or None
    if len(texts) < len(said):
        content = [chat_part(part) for part in said]
    line = {"role": "assistant", "content": content}
    return [{**line, "tool_calls": calls} if calls else line]


def chat_part(part: Part) -> Json:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(source):
            return {"type": "image_url", "image_url": {"url": address(source)}}
        case DocumentPart(InlineData() | UrlSource() as source, title):
            return {
                "type": "file",
                "file": without_nulls(file_data=address(source), filename=title),
            }
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
        metadata=dict(request.labels) or None,
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
        elif isinstance(part, TextPart) and part.system:
            lines.append({"role": "developer", "content": part.text})
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
        case DocumentPart(InlineData() | UrlSource() as source):
            return {"type": "input_file", "file_data": address(source)}
        case _:
            raise AssertionError(part)


def proto(request: CompletionRequest) -> pb.CompleteRequest:
    choice, output = request.tool_choice, request.output_format
    return pb.CompleteRequest(
        completion=pb.CompletionSpec(
            messages=proto_messages(request.messages),
            system=request.system or "",
            tools=[proto_tool(tool) for tool in request.tools],
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
        ),
        request_id=request.client_request_id,
        labels=request.labels,
    )


def proto_tool(tool: Tool) -> pb.Tool:
    parameters = json.dumps(dict(tool.parameters))
    return pb.Tool(name=tool.name, description=tool.description, parameters_json=parameters)


def proto_messages(messages: Iterable[Message]) -> list[pb.Message]:
    """Messages as users of the stub write them."""
    roles = {Role.USER: pb.ROLE_USER, Role.ASSISTANT: pb.ROLE_ASSISTANT}
    return [
        pb.Message(
            role=pb.ROLE_SYSTEM if system else roles[message.role],
            parts=[proto_part(part) for part in parts],
        )
        for message in messages
        for system, parts in (
            groupby(message.parts, _is_system) if message.parts else [(False, ())]
        )
    ]


def _is_system(part: Part) -> bool:
    return isinstance(part, TextPart) and part.system


def proto_part(part: Part) -> pb.Part:
    match part:
        case TextPart(text):
            return pb.Part(text=text)
        case ImagePart(UrlSource(url)):
            return pb.Part(image=pb.Image(url=url))
        case ImagePart(InlineData() as data):
            return pb.Part(image=pb.Image(data=blob(data)))
        case DocumentPart(UrlSource(url), title):
            return pb.Part(document=pb.Document(url=url, title=title or ""))
        case DocumentPart(InlineData() as data, title):
            return pb.Part(document=pb.Document(data=blob(data), title=title or ""))
        case ToolCallPart(id, name, arguments):
            return pb.Part(tool_call=pb.ToolCall(id=id, name=name, arguments_json=arguments))
        case ToolResultPart(call_id, content, is_error):
            result = pb.ToolResult(
                call_id=call_id, content=[proto_part(piece) for piece in content], is_error=is_error
            )
            return pb.Part(tool_result=result)
        case _:
            raise AssertionError(part)


def blob(data: InlineData) -> pb.Blob:
    return pb.Blob(media_type=data.media_type, content=b64decode(data.base64))
