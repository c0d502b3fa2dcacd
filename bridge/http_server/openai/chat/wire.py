"""The request of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bridge.http_server.openai.shared.parameters import (
    NAMED,
    REFUSED,
    SILENT,
    named_unless,
    refused_unless,
)
from bridge.http_server.openai.shared.wire import (
    JsonInt,
    Moderation,
    StopList,
    StreamOptions,
    Temperature,
    TokenLimit,
    TopP,
    WireModel,
)
from bridge.http_server.openai.shared.wire_content import ContentPart
from bridge.http_server.openai.shared.wire_tools import (
    FunctionDefinition,
    FunctionReference,
    ToolChoiceObject,
    ToolDefinition,
)


class FunctionCall(WireModel):
    """The function that was called, and with what."""

    name: str
    arguments: str


class ToolCall(WireModel):
    """A call that the assistant made."""

    id: str
    type: str | None = None
    function: FunctionCall | None = None


class ChatMessage(WireModel):
    """A message of any role; which fields count depends on the role."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    audio: Any = None


class JSONSchemaFormat(WireModel):
    """The schema of the answer."""

    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(WireModel):
    """The shape of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchemaFormat | None = None


# wide: the parameters that OpenAI's API documents.
class ChatCompletionRequest(WireModel):
    """What a caller of `POST /v1/chat/completions` sends. Null is the same as absent."""

    # What has no mark is honoured.
    messages: list[ChatMessage] = Field(min_length=1)
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: TokenLimit | None = None
    max_tokens: TokenLimit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    stop: str | StopList | None = None
    n: Annotated[Annotated[JsonInt, Field(ge=1)] | None, refused_unless(1)] = None
    tools: list[ToolDefinition] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoiceObject | None = None
    parallel_tool_calls: bool | None = None
    functions: list[FunctionDefinition] | None = None
    function_call: Literal["none", "auto"] | FunctionReference | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    include_reasoning: bool | None = None
    """Not OpenAI's, but in wide use: whether the reply carries `reasoning_content`."""
    verbosity: Annotated[Literal["low", "medium", "high"] | None, named_unless("medium")] = None
    seed: Annotated[JsonInt | None, NAMED] = None
    logit_bias: Annotated[dict[str, float] | None, named_unless({})] = None
    frequency_penalty: Annotated[float | None, named_unless(0)] = None
    presence_penalty: Annotated[float | None, named_unless(0)] = None
    logprobs: Annotated[bool | None, refused_unless(False)] = None
    top_logprobs: Annotated[Annotated[JsonInt, Field(ge=0)] | None, refused_unless(0)] = None
    modalities: Annotated[list[str] | None, refused_unless([], ["text"])] = None
    audio: Annotated[Any, REFUSED] = None
    prediction: Annotated[Any, NAMED] = None
    web_search_options: Annotated[Any, REFUSED] = None
    store: Annotated[bool | None, SILENT] = None
    metadata: dict[str, str] | None = None
    user: Annotated[str | None, SILENT] = None
    safety_identifier: Annotated[str | None, SILENT] = None
    service_tier: Annotated[str | None, SILENT] = None
    prompt_cache_key: Annotated[str | None, SILENT] = None
    prompt_cache_options: Annotated[Any, SILENT] = None
    prompt_cache_retention: Annotated[Any, SILENT] = None
    moderation: Annotated[Moderation | None, NAMED] = None
