"""The request of `POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from bridge.http_server.openai.shared.wire import Moderation, StopList, StreamOptions, Temperature
from bridge.http_server.openai.shared.wire_content import ContentPart
from bridge.http_server.openai.shared.wire_tools import (
    FunctionDefinition,
    FunctionReference,
    FunctionType,
    ToolChoiceObject,
    ToolDefinition,
)
from bridge.http_server.wire import (
    NAMED,
    REFUSED,
    SILENT,
    JsonInt,
    TokenLimit,
    TopP,
    WireModel,
    named_unless,
    needing,
    refused_unless,
)

Content: TypeAlias = str | list[ContentPart] | None


class FunctionCall(WireModel):
    """The called function and its arguments."""

    name: str
    arguments: str
    parsed_arguments: Annotated[Any, SILENT] = None
    """Added by the official client to an answer that it parsed, and sent back with it."""


class ToolCall(WireModel):
    """A call made by the assistant."""

    model_config = needing("function")

    id: str
    type: FunctionType = None
    function: FunctionCall | None = None
    index: Annotated[Any, SILENT] = None
    """Left by clients that put a call together from its chunks."""


class SystemMessage(WireModel):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Content
    name: Annotated[str | None, NAMED] = None


class UserMessage(WireModel):
    """A message of the user."""

    role: Literal["user"]
    content: Content
    name: Annotated[str | None, NAMED] = None


class AssistantMessage(WireModel):
    """An earlier answer."""

    role: Literal["assistant"]
    content: Content = None
    name: Annotated[str | None, NAMED] = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    audio: Annotated[Any, REFUSED] = None
    parsed: Annotated[Any, SILENT] = None
    """Like `FunctionCall.parsed_arguments`."""
    # Clients send back an answer's thinking. An earlier turn does not need it.
    reasoning_content: Annotated[Any, SILENT] = None
    reasoning: Annotated[Any, SILENT] = None
    reasoning_details: Annotated[Any, SILENT] = None

    def idle(self) -> Collection[str]:
        """A refusal counts only if there is no content."""
        return {"refusal"} if self.content else ()


class ToolMessage(WireModel):
    """The result of a tool call."""

    role: Literal["tool"]
    tool_call_id: str
    content: Content
    name: Annotated[str | None, SILENT] = None


class FunctionMessage(WireModel):
    """The result of a function call, in the deprecated form."""

    role: Literal["function"]
    name: str
    content: Content


ChatMessage: TypeAlias = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]


class TextFormat(WireModel):
    """A text answer."""

    type: Literal["text"]


class JSONObjectFormat(WireModel):
    """A JSON object as the answer."""

    type: Literal["json_object"]


class JSONSchema(WireModel):
    """The schema of the answer."""

    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class JSONSchemaFormat(WireModel):
    """An answer in JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: JSONSchema


ResponseFormat: TypeAlias = Annotated[
    TextFormat | JSONObjectFormat | JSONSchemaFormat, Field(discriminator="type")
]


# wide: the parameters that OpenAI's API documents.
class ChatCompletionRequest(WireModel):
    """The body of `POST /v1/chat/completions`. Null is the same as absent."""

    # Fields without a marker are honoured.
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
    logprobs: Annotated[bool | None, named_unless(False)] = None
    top_logprobs: Annotated[Annotated[JsonInt, Field(ge=0)] | None, named_unless(0)] = None
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

    def idle(self) -> Collection[str]:
        """Stream options without a stream, and the deprecated one of two token limits."""
        names = () if self.stream else ("stream_options",)
        return (*names, "max_tokens") if self._has_two_limits() else names

    def _has_two_limits(self) -> bool:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        return len(limits) > 1
