"""The request of `POST /v1/responses`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from bridge.http_server.openai.responses.wire_items import InputItem, ReasoningEffort
from bridge.http_server.openai.responses.wire_tools import ResponseTool, ResponseToolChoice
from bridge.http_server.openai.shared.wire import Moderation, StreamOptions, Temperature
from bridge.http_server.wire import (
    NAMED,
    REFUSED,
    SILENT,
    JsonInt,
    Said,
    TokenLimit,
    TopP,
    WireModel,
    named_unless,
)


class TextFormat(WireModel):
    """The format of the answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"type": {"const": "json_schema"}}},
            "then": {"properties": {"schema": {"type": "object"}}, "required": ["schema"]},
        }
    )

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    def idle(self) -> Collection[str]:
        """The description of a schema, without a schema."""
        return () if self.type == "json_schema" else {"name", "description", "schema", "strict"}


class TextOptions(WireModel):
    """The format and the style of the text."""

    format: TextFormat | None = None
    verbosity: Annotated[Literal["low", "medium", "high"] | None, named_unless("medium")] = None


class Reasoning(WireModel):
    """The effort of the model, and whether its thinking is returned."""

    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """The deprecated name of `summary`."""
    context: Annotated[str | None, named_unless("auto")] = None
    mode: Annotated[str | None, named_unless("standard")] = None

    def idle(self) -> Collection[str]:
        """The deprecated one of two names of the same option."""
        return {"generate_summary"} if self.summary else ()


class ConversationReference(WireModel):
    """A conversation that the server keeps."""

    id: str


# wide: the parameters that OpenAI's API documents.
class ResponsesRequest(WireModel):
    """The body of `POST /v1/responses`. Null is the same as absent."""

    # Fields without a marker are honoured.
    input: Said | list[InputItem]
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationReference | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[ResponseTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: TokenLimit | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    metadata: dict[str, str] | None = None
    include: list[str] | None = None
    background: bool | None = None
    background_options: Annotated[Any, NAMED] = None
    prompt: Annotated[Any, REFUSED] = None
    # It limits the calls of hosted tools, and there are none.
    max_tool_calls: Annotated[JsonInt | None, SILENT] = None
    top_logprobs: Annotated[Annotated[JsonInt, Field(ge=0)] | None, named_unless(0)] = None
    truncation: Annotated[Literal["auto", "disabled"] | None, named_unless("disabled")] = None
    context_management: Annotated[Any, named_unless([])] = None
    image: Annotated[Any, NAMED] = None
    access_programs: Annotated[Any, NAMED] = None
    user: Annotated[str | None, SILENT] = None
    safety_identifier: Annotated[str | None, SILENT] = None
    service_tier: Annotated[str | None, SILENT] = None
    prompt_cache_key: Annotated[str | None, SILENT] = None
    client_metadata: Annotated[Any, SILENT] = None
    """Bookkeeping of Codex's."""
    prompt_cache_options: Annotated[Any, SILENT] = None
    prompt_cache_retention: Annotated[Any, SILENT] = None
    moderation: Annotated[Moderation | None, NAMED] = None

    def idle(self) -> Collection[str]:
        """Stream options without a stream."""
        return () if self.stream else {"stream_options"}

    @property
    def conversation_id(self) -> str | None:
        """The id of the conversation, however it is given."""
        given = self.conversation
        return given.id if isinstance(given, ConversationReference) else given
