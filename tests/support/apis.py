"""Both doors as their clients use them: one request in, one neutral transcript out."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import grpc
import openai
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bridge.core.contract.request import (
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    Part,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
)
from bridge.core.contract.usage import Usage
from bridge.v1 import completion_pb2 as pb
from bridge.v1.completion_pb2_grpc import CompletionServiceStub
from tests.support.harness import PATIENCE, RunningBridge

Json = dict[str, Any]

FIELDS: Mapping[str, str] = {
    "max_completion_tokens": "max_output_tokens",
    "messages[0].content[0].image_url.url": "messages[0].parts[0].image",
    "messages[0].content[0].file.file_data": "messages[0].parts[0].document",
    "messages[1].content": "messages[1].parts[0].image",
    "messages[1].tool_calls[1].id": "messages[1].parts[1].tool_call",
    "messages.tool_calls.function.arguments": "messages.parts.tool_call.arguments_json",
    "messages[2].content[0].file.file_data": (
        "messages[2].parts[0].tool_result.content[0].document"
    ),
    "messages[2].tool_call_id": "messages[2].parts[0].tool_result",
    "messages[3].tool_call_id": "messages[2].parts[1].tool_result",
    "reasoning_effort": "effort",
    "response_format": "output_format",
    "response_format.json_schema.schema": "output_format.schema_json",
    "stop": "sampling.stop",
    "temperature": "sampling.temperature",
    "tool_choice": "tool_choice.mode",
    "tool_choice.allowed_tools.tools[0].function.name": "tool_choice.allowed[0]",
    "tool_choice.function.name": "tool_choice.name",
    "tools[0].function.name": "tools[0].name",
    "tools[0].function.parameters": "tools[0].parameters_json",
    "tools[1].function.name": "tools[1].name",
    "top_p": "sampling.top_p",
}
"""OpenAI's name of a field and the proto's. A name that is not here is the same at both doors."""

CODES: Mapping[str, tuple[str, int]] = {
    "CLAUDE_NOT_LOGGED_IN": ("claude_not_logged_in", 503),
    "CONTEXT_LENGTH_EXCEEDED": ("context_length_exceeded", 400),
    "INVALID_IMAGE": ("invalid_image", 400),
    "INVALID_IMAGE_URL": ("invalid_image_url", 400),
    "INVALID_VALUE": ("invalid_value", 400),
    "MISSING_REQUIRED_PARAMETER": ("missing_required_parameter", 400),
    "MODEL_NOT_FOUND": ("model_not_found", 404),
    "OVERLOADED": ("overloaded_error", 503),
    "PERMISSION_DENIED": ("permission_denied", 403),
    "PLAN_LIMIT": ("rate_limit_exceeded", 429),
    "RATE_LIMITED": ("rate_limit_exceeded", 429),
    "REQUEST_TOO_LARGE": ("request_too_large", 413),
    "UNFIT_ANSWER": ("upstream_error", 503),
    "UNSUPPORTED_VALUE": ("unsupported_value", 400),
    "UPSTREAM_ERROR": ("upstream_error", 503),
    "UPSTREAM_REFUSED": ("upstream_refused", 400),
}
"""A reason over gRPC, and its code and status over HTTP."""

FINER_CODES = frozenset(
    {
        "invalid_image_url",
        "invalid_type",
        "missing_required_parameter",
        "unsupported_parameter",
        "unsupported_value",
    }
)
"""What is told apart of invalid values; a door may see more than the other."""

_PLACE = re.compile(r"'[a-z_]+(\[\d+\])?([.\[][\w.\[\]]+)?'(?= |:|\.)")
"""The name of a field in an error's words, which are its door's own."""

FINISHES: Mapping[str, str] = {
    "FINISH_REASON_STOP": "stop",
    "FINISH_REASON_LENGTH": "length",
    "FINISH_REASON_TOOL_CALLS": "tool_calls",
    "FINISH_REASON_REFUSAL": "content_filter",
}
"""How an answer ended, over gRPC and over HTTP."""

STATUSES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""The status of an error at both doors, but for a missing login: FAILED_PRECONDITION."""


@dataclass(frozen=True)
class Call:
    """A call of a tool; its arguments as they came."""

    id: str
    name: str
    fragments: tuple[str, ...] = ()

    @property
    def arguments(self) -> str:
        return "".join(self.fragments)


@dataclass(frozen=True)
class Failure:
    """An error, in OpenAI's code and the proto's field."""

    code: str
    field: str
    retry: tuple[bool, bool] | None
    """Whether trying again can help, and whether it is said when. None where the answer had
    begun: HTTP cannot say it any more."""
    message: str = ""
    """What is said, without the names of fields."""


NO_USAGE = Usage()


@dataclass(frozen=True)
class Transcript:
    """What came of a request, whichever door it went through."""

    text: str = ""
    thinking: str = ""
    chunks: int = 0
    calls: tuple[Call, ...] = ()
    model: str = ""
    finish: str = ""
    usage: Usage = NO_USAGE
    ignored: tuple[str, ...] = ()
    failure: Failure | None = None
    request_id: str = field(default="", compare=False)

    @property
    def message(self) -> Message:
        """The answer, as a client sends it back."""
        text = (TextPart(self.text),) if self.text else ()
        calls = (ToolCallPart(call.id, call.name, call.arguments) for call in self.calls)
        return Message(Role.ASSISTANT, (*text, *calls))


@dataclass(frozen=True)
class Scenario:
    """A request, and what is to come of it at either door.

    `{id}` in a text is replaced, so that requests can be told apart.
    """

    name: str
    messages: tuple[Message, ...] = ()
    system: str = ""
    tools: tuple[Tool, ...] = ()
    http: Mapping[str, Any] = field(default_factory=dict)
    """What else is said, as OpenAI names it."""
    grpc: Mapping[str, Any] = field(default_factory=dict)
    """The same, as the proto names it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the request that reaches the model; None is one that is not in it."""
    finish: str = "stop"
    ignored: tuple[str, ...] = ()
    code: str = ""
    """The code of the error, where there is to be one."""
    field: str = ""
    """What the error names, by OpenAI's name."""
    abrupt: bool = False
    """Whether the connection is reset: what was on its way then may be lost."""
    said: str = ""
    """What the error says, among other words."""
    own_words: bool = False
    """Whether each door says what is wrong in its own words: what it should be differs."""

    def http_body(self, marker: str) -> Json:
        body: Json = {"model": "default"}
        messages = http_messages(_marked(self.messages, marker))
        if self.system:
            system = self.system.replace("{id}", marker)
            messages.insert(0, {"role": "system", "content": system})
        body["messages"] = messages
        if self.tools:
            body["tools"] = [_http_tool(tool) for tool in self.tools]
        return {**body, **self.http}

    def grpc_request(self, marker: str) -> pb.CompleteRequest:
        fields: Json = {
            "messages": grpc_messages(_marked(self.messages, marker)),
            "system": self.system.replace("{id}", marker),
            "tools": [
                pb.Tool(
                    name=tool.name,
                    description=tool.description,
                    parameters_json=json.dumps(tool.parameters),
                )
                for tool in self.tools
            ],
        }
        return pb.CompleteRequest(**{**fields, **self.grpc})


def _marked(messages: Iterable[Message], marker: str) -> list[Message]:
    return [
        replace(
            message,
            parts=tuple(
                TextPart(part.text.replace("{id}", marker)) if isinstance(part, TextPart) else part
                for part in message.parts
            ),
        )
        for message in messages
    ]


# Messages as OpenAI's clients write them


def http_messages(messages: Iterable[Message]) -> list[Json]:
    written: list[Json] = []
    for message in messages:
        if message.role is Role.ASSISTANT:
            written.append(_http_assistant(message))
            continue
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                content = [_http_part(piece) for piece in part.content]
                written.append({"role": "tool", "tool_call_id": part.call_id, "content": content})
        rest = [part for part in message.parts if not isinstance(part, ToolResultPart)]
        if rest:
            written.append({"role": "user", "content": [_http_part(part) for part in rest]})
    return written


def _http_assistant(message: Message) -> Json:
    texts = [part.text for part in message.parts if isinstance(part, TextPart)]
    calls = [
        {
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    written: Json = {"role": "assistant", "content": "".join(texts) or None}
    return {**written, "tool_calls": calls} if calls else written


def _http_part(part: Part) -> Json:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(UrlSource(url)):
            return {"type": "image_url", "image_url": {"url": url}}
        case ImagePart(InlineData() as data):
            return {"type": "image_url", "image_url": {"url": _data_url(data)}}
        case DocumentPart(InlineData() as data, title):
            return {"type": "file", "file": {"file_data": _data_url(data), "filename": title}}
        case _:
            raise AssertionError(part)


def _data_url(data: InlineData) -> str:
    return f"data:{data.media_type};base64,{data.base64}"


def _http_tool(tool: Tool) -> Json:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


# Messages as users of the stub write them


def grpc_messages(messages: Iterable[Message]) -> list[pb.Message]:
    roles = {Role.USER: pb.ROLE_USER, Role.ASSISTANT: pb.ROLE_ASSISTANT}
    return [
        pb.Message(role=roles[message.role], parts=[grpc_part(part) for part in message.parts])
        for message in messages
    ]


def grpc_part(part: Part) -> pb.Part:
    match part:
        case TextPart(text):
            return pb.Part(text=text)
        case ImagePart(source):
            if isinstance(source, UrlSource):
                return pb.Part(image=pb.Image(url=source.url))
            return pb.Part(image=pb.Image(data=_blob(source)))
        case DocumentPart(source, title):
            if isinstance(source, UrlSource):
                return pb.Part(document=pb.Document(url=source.url, title=title or ""))
            return pb.Part(document=pb.Document(data=_blob(source), title=title or ""))
        case ToolCallPart(id, name, arguments):
            return pb.Part(tool_call=pb.ToolCall(id=id, name=name, arguments_json=arguments))
        case ToolResultPart(call_id, content, is_error):
            result = pb.ToolResult(
                call_id=call_id, content=[grpc_part(piece) for piece in content], is_error=is_error
            )
            return pb.Part(tool_result=result)
        case _:
            assert_never(part)


def _blob(data: InlineData) -> pb.Blob:
    return pb.Blob(media_type=data.media_type, content=b64decode(data.base64))


# The doors


def through_http(running: RunningBridge, scenario: Scenario, marker: str) -> Transcript:
    """Run it with OpenAI's own client, as a stream."""
    seen = _Seen()
    usage: Any = None
    with _client(running) as client:
        try:
            raw = client.chat.completions.with_raw_response.create(
                **_typed(scenario.http_body(marker)),
                stream=True,
                stream_options={"include_usage": True},
                extra_headers=scenario.headers,
            )
            stream: Any = raw.parse()
            for chunk in stream:
                seen.model = chunk.model
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    seen.delta(choice.delta)
                    seen.finish = choice.finish_reason or seen.finish
        except openai.APIError as error:
            return seen.transcript(failure=_http_failure(error))
    return seen.transcript(
        usage=_http_usage(usage),
        ignored=_http_ignored(raw.headers),
        request_id=raw.headers["x-request-id"],
    )


def through_http_at_once(running: RunningBridge, scenario: Scenario, marker: str) -> Transcript:
    """Run it with OpenAI's own client, without a stream."""
    with _client(running) as client:
        try:
            raw = client.chat.completions.with_raw_response.create(
                **_typed(scenario.http_body(marker)), extra_headers=scenario.headers
            )
        except openai.APIError as error:
            return Transcript(failure=_http_failure(error))
    reply: Any = raw.parse()
    (choice,) = reply.choices
    message = choice.message
    return Transcript(
        text=message.content or "",
        thinking=getattr(message, "reasoning_content", ""),
        calls=tuple(
            Call(call.id, call.function.name, (call.function.arguments,))
            for call in message.tool_calls or ()
        ),
        model=reply.model,
        finish=choice.finish_reason,
        usage=_http_usage(reply.usage),
        ignored=_http_ignored(raw.headers),
        request_id=raw.headers["x-request-id"],
    )


def through_grpc(running: RunningBridge, scenario: Scenario, marker: str) -> Transcript:
    """Run it with the generated stub."""
    seen = _Seen()
    started, finished = pb.Started(), pb.Finished()
    with grpc.insecure_channel(running.target) as channel:
        call = CompletionServiceStub(channel).Complete(
            scenario.grpc_request(marker), timeout=PATIENCE
        )
        try:
            for response in call:
                match response.WhichOneof("event"):
                    case "started":
                        started = response.started
                        seen.model = started.model
                    case "text_delta":
                        seen.text.append(response.text_delta.text)
                    case "thinking_delta":
                        seen.thinking.append(response.thinking_delta.text)
                    case "tool_call_start":
                        begun = response.tool_call_start
                        seen.call(begun.index, begun.id, begun.name)
                    case "tool_call_delta":
                        delta = response.tool_call_delta
                        seen.arguments(delta.index, delta.arguments_json)
                    case "finished":
                        finished = response.finished
        except grpc.RpcError as error:
            return seen.transcript(failure=_grpc_failure(error, begun=bool(seen.model)))
    seen.finish = FINISHES[pb.FinishReason.Name(finished.reason)]
    usage = MessageToDict(
        finished.usage, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return seen.transcript(
        usage=Usage(**{name: int(count) for name, count in usage.items()}),
        ignored=tuple(started.ignored_params),
        request_id=started.request_id,
    )


DOORS: Mapping[str, Callable[[RunningBridge, Scenario, str], Transcript]] = {
    "http": through_http,
    "grpc": through_grpc,
}


def _typed(body: Json) -> Json:
    """The arguments of the client's method; what it might not know or take goes past its types."""
    known = {name: body.pop(name) for name in ("model", "messages")}
    return {**known, "extra_body": body}


def _client(running: RunningBridge) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{running.url}/v1", api_key="unused", max_retries=0, timeout=PATIENCE
    )


class _Seen:
    """What has come of a stream so far."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.calls: list[Call] = []
        self.model = ""
        self.finish = ""

    def delta(self, delta: Any) -> None:
        if delta.content:
            self.text.append(delta.content)
        if thinking := getattr(delta, "reasoning_content", None):
            self.thinking.append(thinking)
        for call in delta.tool_calls or ():
            if call.id is not None:
                self.call(call.index, call.id, call.function.name)
                assert call.function.arguments == ""
            else:
                assert call.function.name is None
                self.arguments(call.index, call.function.arguments)

    def call(self, index: int, id: str, name: str) -> None:
        assert index == len(self.calls), "calls are counted from 0, without gaps"
        self.calls.append(Call(id, name))

    def arguments(self, index: int, fragment: str) -> None:
        call = self.calls[index]
        self.calls[index] = replace(call, fragments=(*call.fragments, fragment))

    def transcript(self, **more: Any) -> Transcript:
        return Transcript(
            text="".join(self.text),
            thinking="".join(self.thinking),
            chunks=len(self.text),
            calls=tuple(self.calls),
            model=self.model,
            finish=self.finish,
            **more,
        )


def _http_usage(usage: Any) -> Usage:
    prompt = usage.prompt_tokens_details
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    return Usage(
        input_tokens=usage.prompt_tokens - prompt.cached_tokens - prompt.cache_write_tokens,
        cache_read_tokens=prompt.cached_tokens,
        cache_write_tokens=prompt.cache_write_tokens,
        output_tokens=usage.completion_tokens,
        thinking_tokens=usage.completion_tokens_details.reasoning_tokens,
    )


def _http_ignored(headers: Mapping[str, str]) -> tuple[str, ...]:
    return grpc_names(filter(None, headers.get("x-bridge-ignored-params", "").split(",")))


def grpc_names(names: Iterable[str]) -> tuple[str, ...]:
    """The proto's names of OpenAI's fields."""
    return tuple(FIELDS.get(name, name) for name in names)


def _http_failure(error: openai.APIError) -> Failure:
    body: Any = error.body
    assert body.keys() >= {"message", "type", "param", "code"}
    code = str(error.code)
    if code in FINER_CODES:
        code = "invalid_value"
    said = _PLACE.sub("'…'", body["message"])
    (field_,) = grpc_names([body["param"] or ""])
    if not isinstance(error, openai.APIStatusError):
        return Failure(code, field_, None, said)
    status, headers = error.response.status_code, error.response.headers
    assert (code, status) in {*CODES.values(), ("invalid_value", 400)}
    can_help = (status in (408, 409, 429) or status >= 500) and (
        headers.get("x-should-retry") != "false"
    )
    return Failure(code, field_, (can_help, "retry-after" in headers), said)


def _grpc_failure(error: Any, *, begun: bool) -> Failure:
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error}"
    info, violations = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry_info = error_details_pb2.RetryInfo()
    for detail in status.details:
        # Each takes only what is of its own kind.
        detail.Unpack(info)
        detail.Unpack(violations)
    field_ = info.metadata.get("field", "")
    if violations.field_violations:
        assert [violation.field for violation in violations.field_violations] == [field_]
    code, http_status = CODES[info.reason]
    expected = STATUSES[http_status]
    if info.reason == "CLAUDE_NOT_LOGGED_IN":
        expected = grpc.StatusCode.FAILED_PRECONDITION
    assert error.code() is expected
    if code in FINER_CODES:
        code = "invalid_value"
    said_when = any(detail.Is(retry_info.DESCRIPTOR) for detail in status.details)
    retry = None if begun else (info.metadata["retryable"] == "true", said_when)
    return Failure(code, field_, retry, _PLACE.sub("'…'", status.message))


def seen_by_model(running: RunningBridge, marker: str) -> Json | None:
    """The request with this marker that the model answered, or else the last it refused.

    After it may come what the CLI adds of its own, which is interrupted.
    """
    exchanges = running.simulator.ledger.exchanges(containing=marker)
    if not exchanges:
        return None
    answered = (exchange for exchange in exchanges if exchange.status == 200)
    body: Json = json.loads(json.dumps(next(answered, exchanges[-1]).body).replace(marker, "{id}"))
    # These name the session.
    del body["metadata"]
    body["system"] = [
        block for block in body["system"] if "x-anthropic-billing-header" not in block["text"]
    ]
    return body
