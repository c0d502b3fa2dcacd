"""Both APIs as their clients use them: one request in, one reply in neutral terms out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import httpx

from bridge.core.contract.request import Message, TextPart, Tool
from bridge.v1 import completion_pb2 as pb
from tests.support.encoding import chat_messages, chat_tool, proto_messages, proto_tool
from tests.support.grpc.client import complete, create
from tests.support.harness import PATIENCE, RunningBridge
from tests.support.http.client import HttpCall, Json
from tests.support.replies import Failure, Reply

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
"""OpenAI's name of a field and CompletionSpec's. A name that is not here is the same in both."""

COMPLETION = "completion."
"""What comes before the name of a field of CompletionSpec."""

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
"""What is told apart of invalid values; an API may see more than the other."""

_PLACE = re.compile(r"'[a-z_]+(\[\d+\])?([.\[][\w.\[\]]+)?'(?= |:|\.|,)")
"""The name of a field in an error's words, which are its API's own."""

STATUSES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
"""The status of an error at both APIs, but for a missing login: FAILED_PRECONDITION."""


@dataclass(frozen=True)
class Scenario:
    """A request, and what is to come of it at either API.

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
    """Whether each API says what is wrong in its own words: what it should be differs."""

    def http_body(self, marker: str) -> Json:
        body: Json = {"model": "default"}
        system = self.system.replace("{id}", marker)
        body["messages"] = chat_messages(_marked(self.messages, marker), system)
        if self.tools:
            body["tools"] = [chat_tool(tool) for tool in self.tools]
        return {**body, **self.http}

    def grpc_request(self, marker: str) -> pb.CompleteRequest:
        fields: Json = {
            "messages": proto_messages(_marked(self.messages, marker)),
            "system": self.system.replace("{id}", marker),
            "tools": [proto_tool(tool) for tool in self.tools],
        }
        return pb.CompleteRequest(completion=pb.CompletionSpec(**{**fields, **self.grpc}))


def _marked(messages: Iterable[Message], marker: str) -> list[Message]:
    return [
        replace(
            message,
            parts=tuple(
                replace(part, text=part.text.replace("{id}", marker))
                if isinstance(part, TextPart)
                else part
                for part in message.parts
            ),
        )
        for message in messages
    ]


# The APIs


def over_http(
    running: RunningBridge, scenario: Scenario, marker: str, *, stream: bool = True
) -> Reply:
    """Run it as a chat completion, streamed or whole."""
    body = scenario.http_body(marker)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}

    async def run() -> Reply:
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE) as client:
            return await HttpCall(client, body, headers=scenario.headers).finish()

    reply = running.call(run)
    reply.ignored = grpc_names(reply.ignored)
    if reply.failure is not None:
        reply.failure = _from_http(reply.failure)
    return reply


def over_grpc(
    running: RunningBridge, scenario: Scenario, marker: str, *, stream: bool = True
) -> Reply:
    """Run it with the generated stub, streamed or whole."""
    request = scenario.grpc_request(marker)

    async def run() -> Reply:
        async with grpc.aio.insecure_channel(running.target) as channel:
            if not stream:
                return await create(channel, request)
            return await complete(channel, request).finish()

    reply = running.call(run)
    assert all(name.startswith(COMPLETION) for name in reply.ignored)
    reply.ignored = tuple(name.removeprefix(COMPLETION) for name in reply.ignored)
    if reply.failure is not None:
        reply.failure = _from_grpc(reply.failure, begun=bool(reply.model))
    return reply


APIS: Mapping[str, Callable[[RunningBridge, Scenario, str], Reply]] = {
    "http": over_http,
    "grpc": over_grpc,
}


def grpc_names(names: Iterable[str]) -> tuple[str, ...]:
    """The proto's names of OpenAI's fields."""
    return tuple(FIELDS.get(name, name) for name in names)


def _from_http(failure: Failure) -> Failure:
    told = alike(failure, failure.reason, grpc_names([failure.field])[0])
    if failure.status != 200:
        assert (told.reason, failure.status) in {*CODES.values(), ("invalid_value", 400)}
    return told


def _from_grpc(failure: Failure, *, begun: bool) -> Failure:
    code, http_status = CODES[failure.reason]
    logged_out = failure.reason == "CLAUDE_NOT_LOGGED_IN"
    assert failure.status == ("FAILED_PRECONDITION" if logged_out else STATUSES[http_status])
    if begun:
        # Over HTTP it is too late to report it.
        failure = replace(failure, retryable=None, retry_after=None)
    assert failure.field.startswith(COMPLETION) or not failure.field
    return alike(failure, code, failure.field.removeprefix(COMPLETION))


def alike(failure: Failure, code: str, field: str) -> Failure:
    """An error by OpenAI's code and the proto's field, without what is its API's own.

    Of `retry_after` it is kept whether there is one: how long depends on the moment.
    """
    return replace(
        failure,
        status="",
        reason="invalid_value" if code in FINER_CODES else code,
        field=field,
        message=_PLACE.sub("'…'", failure.message),
        retry_after=None if failure.retry_after is None else 0.0,
    )


def seen_by_model(running: RunningBridge, marker: str) -> Json | None:
    """The request with this marker that the model answered, or else the last it refused.

    It may be followed by what the CLI adds by itself, which is interrupted.
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
