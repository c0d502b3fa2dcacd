"""The Messages API's driver: a scenario as its clients write it, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any, Final

import httpx

from bridge.core.contract.request import (
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    Part,
    SearchResultPart,
    TextPart,
    ThinkingPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
)
from bridge.core.contract.usage import Usage
from tests.support.apis import CODES, Scenario, alike, grpc_names
from tests.support.harness import PATIENCE, RunningBridge
from tests.support.http.client import Json
from tests.support.replies import Failure, Reply

NAMES: Final[Mapping[str, str]] = {
    "output_config.effort": "effort",
    "thinking": "include_thinking",
    "output_config.format": "output_format",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "messages.content.input": "messages.parts.tool_call.arguments_json",
}
"""Anthropic's name of a field and the proto's."""

FIELDS: Final[Mapping[str, str]] = {
    "max_completion_tokens": "max_tokens",
    "messages.tool_calls.function.arguments": "messages.content.input",
    "messages[0].content[0].image_url.url": "messages[0].content[0]",
    "messages[0].content[0].file.file_data": "messages[0].content[0]",
    "messages[1].tool_calls[1].id": "messages[1].content[1].id",
    "messages[1].content": "messages[1].content[0]",
    "messages[2].content[0].file.file_data": "messages[2].content[0].content[0]",
    "messages[2].tool_call_id": "messages[2].content[0].tool_use_id",
    "messages[3].tool_call_id": "messages[2].content[1].tool_use_id",
    "reasoning_effort": "output_config.effort",
    "response_format": "output_config.format",
    "response_format.json_schema.schema": "output_config.format.schema",
    "stop": "stop_sequences",
    "tool_choice.function.name": "tool_choice.name",
    "tools[0].function.name": "tools[0].name",
    "tools[0].function.parameters": "tools[0].input_schema",
    "tools[1].function.name": "tools[1].name",
}
"""OpenAI's name of a field that an error names, and Anthropic's."""

TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The type of an error with a status, as Anthropic documents them."""

FINISHES: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
ENOUGH: Final = 32_000
"""Tokens, where a scenario has no limit: this API requires one."""


class Unwritable(Exception):
    """The Messages API has no words for the scenario."""


def body_of(scenario: Scenario, marker: str) -> Json:
    """Write a scenario as Anthropic's clients do; raises Unwritable."""
    body: Json = {"model": "default", "max_tokens": ENOUGH, "stream": True}
    if scenario.system:
        body["system"] = scenario.system.replace("{id}", marker)
    messages = [line for message in scenario.messages for line in _messages(message)]
    body["messages"] = json.loads(json.dumps(messages).replace("{id}", marker))
    if scenario.tools:
        body["tools"] = [_tool(tool) for tool in scenario.tools]
    for name, value in scenario.http.items():
        _add(body, name, value)
    if "parallel_tool_calls" in scenario.http:
        choice = body.setdefault("tool_choice", {"type": "auto"})
        choice["disable_parallel_tool_use"] = not scenario.http["parallel_tool_calls"]
    return body


def _add(body: Json, name: str, value: Any) -> None:
    match name, value:
        case (("model" | "temperature" | "top_p"), _):
            body[name] = value
        case (("max_tokens" | "max_completion_tokens"), _):
            body["max_tokens"] = value
        case "stop", _:
            body["stop_sequences"] = [value] if isinstance(value, str) else value
        case "include_reasoning", True:
            body["thinking"] = {"type": "adaptive"}
        case "reasoning_effort", "none":
            raise Unwritable("that thinking is off and the effort low, in one word")
        case "reasoning_effort", _:
            body.setdefault("output_config", {})["effort"] = value
        case "response_format", {"type": "json_schema", "json_schema": schema}:
            form = {"type": "json_schema", "schema": schema.get("schema")}
            body.setdefault("output_config", {})["format"] = form
        case "tool_choice", ("none" | "auto" | "required"):
            body["tool_choice"] = {"type": {"required": "any"}.get(value, value)}
        case "tool_choice", {"type": "function", "function": function}:
            body["tool_choice"] = {"type": "tool", "name": function["name"]}
        case "parallel_tool_calls", _:
            pass
        case (("messages" | "tools"), _):
            body[name] = [_RAW[name](each) for each in value]
        case _:
            raise Unwritable(f"{name}: {value}")


def _raw_message(line: Json) -> Json:
    """Write a message of OpenAI's; its content is a text, or images by data."""
    content = line["content"]
    if not isinstance(content, str):
        content = [_image(part["image_url"]["url"]) for part in content]
    return {**line, "content": content}


def _image(url: str) -> Json:
    media_type, _, data = url.removeprefix("data:").partition(";base64,")
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source}


def _raw_tool(tool: Json) -> Json:
    function = tool["function"]
    return {"name": function["name"], "input_schema": function["parameters"]}


_RAW: Final[Mapping[str, Callable[[Json], Json]]] = {"messages": _raw_message, "tools": _raw_tool}
"""What a scenario may say in OpenAI's own form."""


def _tool(tool: Tool) -> Json:
    said = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, "input_schema": dict(tool.parameters), **said}


def _messages(message: Message) -> Iterator[Json]:
    """Write a message; system messages in it are messages of their own."""
    for of_system, parts in groupby(message.parts, _is_system):
        role = "system" if of_system else message.role.value
        yield {"role": role, "content": [_block(part) for part in parts]}
    if not message.parts:
        yield {"role": message.role.value, "content": []}


def _is_system(part: Part) -> bool:
    return isinstance(part, TextPart) and part.system


def _block(part: Part) -> Json:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ThinkingPart(text, signature):
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ImagePart(source):
            return {"type": "image", "source": _source(source)}
        case DocumentPart(InlineData() | UrlSource() as source, title):
            return {"type": "document", "source": _source(source), "title": title}
        case DocumentPart() | SearchResultPart():
            raise Unwritable("what only this API has")
        case ToolCallPart(id, name, arguments):
            try:
                given = json.loads(arguments or "{}")
            except ValueError as error:
                raise Unwritable("arguments that are not JSON") from error
            if not isinstance(given, dict):
                raise Unwritable("arguments that are no object")
            return {"type": "tool_use", "id": id, "name": name, "input": given}
        case ToolResultPart(call_id, content, is_error):
            inner = [_block(piece) for piece in content]
            result = {"type": "tool_result", "tool_use_id": call_id, "content": inner}
            return {**result, "is_error": True} if is_error else result


def _source(source: InlineData | UrlSource) -> Json:
    if isinstance(source, UrlSource):
        return {"type": "url", "url": source.url}
    return {"type": "base64", "media_type": source.media_type, "data": source.base64}


def over_messages(running: RunningBridge, scenario: Scenario, marker: str) -> Reply:
    """Run it as a streamed message; fields have the proto's names."""
    reply = _over_messages(running, scenario, marker)
    field = FIELDS.get(scenario.field, scenario.field)
    if reply.failure is not None and reply.failure.field == field:
        # Anthropic's name may be that of several fields, so it cannot be translated otherwise.
        reply.failure = replace(reply.failure, field=grpc_names([scenario.field])[0])
    return reply


def _over_messages(running: RunningBridge, scenario: Scenario, marker: str) -> Reply:
    reply = Reply()
    body = body_of(scenario, marker)
    with httpx.stream(
        "POST", f"{running.url}/v1/messages", json=body, headers=scenario.headers, timeout=PATIENCE
    ) as response:
        reply.request_id = response.headers["request-id"]
        named = response.headers.get("x-bridge-ignored-params", "").split(",")
        reply.ignored = tuple(NAMES.get(name, name) for name in named if name)
        if response.status_code != 200:
            response.read()
            reply.failure = failure_of(response.json(), response.status_code, response.headers)
            return reply
        calls: dict[int, int] = {}
        for event in _events(response):
            _take(reply, event, calls)
    return reply


def failure_of(body: Json, status: int, headers: Mapping[str, str]) -> Failure:
    """An error with the code of chat completions; its status and type are checked here."""
    assert body["type"] == "error"
    error, details = body["error"], body["error"]["details"]
    code, usual = CODES.get(details["error_code"].upper(), (details["error_code"], 400))
    own = 529 if code == "overloaded_error" else usual
    assert status in (200, own)
    assert error["type"] == TYPES[own]
    retryable: bool | None = None
    after: float | None = None
    if status != 200:
        retryable = (status >= 500 or status == 429) and headers.get("x-should-retry") != "false"
        after = float(headers["retry-after"]) if "retry-after" in headers else None
    failure = Failure(status, code, after, error["message"], retryable=retryable)
    return alike(failure, code, details.get("field", ""))


def _events(response: httpx.Response) -> Iterator[Json]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


def _take(reply: Reply, event: Json, calls: dict[int, int]) -> None:
    match event:
        case {"type": "message_start", "message": message}:
            reply.model = message["model"]
        case {"type": "content_block_start", "index": index, "content_block": block}:
            if block["type"] == "tool_use":
                calls[index] = len(reply.calls)
                reply.begin_call(calls[index], block["id"], block["name"])
        case {"type": "content_block_delta", "index": index, "delta": delta}:
            match delta["type"]:
                case "text_delta":
                    reply.add_text(delta["text"])
                case "thinking_delta":
                    reply.thinking += delta["thinking"]
                case "input_json_delta":
                    reply.add_arguments(calls[index], delta["partial_json"])
        case {"type": "message_delta", "delta": delta, "usage": usage}:
            reply.finish = FINISHES[delta["stop_reason"]]
            reply.usage = Usage(
                usage["input_tokens"],
                usage["cache_read_input_tokens"],
                usage["cache_creation_input_tokens"],
                usage["output_tokens"],
                usage["output_tokens_details"]["thinking_tokens"],
            )
        case {"type": "error"}:
            reply.failure = failure_of(event, 200, {})
