"""The request of `POST /v1/messages`, and of `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from bridge.http_server.anthropic.messages.wire_content import CacheControl, ContentBlock, TextBlock
from bridge.http_server.anthropic.messages.wire_tools import AnyTool, ToolChoiceOption
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

_KEEPS_ALL: Final = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
"""Changes nothing: Claude Code sends it by itself."""


class JsonFormat(WireModel):
    """An answer that is JSON of a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(WireModel):
    """The effort and the format of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None
    task_budget: Annotated[Any, NAMED] = None


class MessageParam(WireModel):
    """One message of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock]
    output_config: OutputConfig | None = None
    """The effort from here on. The bridge has one for the whole answer."""


class ThinkingConfig(WireModel):
    """Whether the model thinks, and how its thinking is shown."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[JsonInt | None, NAMED] = None
    """Models take an effort instead."""
    display: str | None = None


# wide: the parameters that Anthropic's API documents.
class MessagesRequest(WireModel):
    """What a caller of `POST /v1/messages` sends. Null is the same as absent."""

    model_config = needing("max_tokens")

    # What has no mark is honoured.
    model: str
    messages: Annotated[list[MessageParam], Field(min_length=1)]
    max_tokens: TokenLimit | None = None
    system: str | list[TextBlock] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: TopP | None = None
    top_k: Annotated[JsonInt, Field(ge=1)] | None = None
    stop_sequences: Annotated[list[str], Field(max_length=4)] | None = None
    tools: list[AnyTool] | None = None
    tool_choice: ToolChoiceOption | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    """The name of `output_config.format` while it was a beta."""
    cache_control: Annotated[CacheControl | None, SILENT] = None
    """Asks for what Claude Code always does: to cache the prompt up to its end."""
    metadata: dict[str, Any] | None = None
    """Its `user_id` is a label; other members have no meaning in Anthropic's API either."""
    service_tier: Annotated[Literal["auto", "standard_only"] | None, SILENT] = None
    speed: Annotated[str | None, named_unless("standard")] = None
    diagnostics: Annotated[Any, NAMED] = None
    context_management: Annotated[Any, named_unless({}, {"edits": []}, _KEEPS_ALL)] = None
    compaction: Annotated[Any, NAMED] = None
    fallbacks: Annotated[Any, named_unless([])] = None
    fallback_credit_token: Annotated[Any, NAMED] = None
    billing_policy: Annotated[Any, NAMED] = None
    user_profile_id: Annotated[str | None, NAMED] = None
    workspace_id: Annotated[str | None, NAMED] = None
    inference_geo: Annotated[str | None, refused_unless("global")] = None
    container: Annotated[Any, REFUSED] = None
    mcp_servers: Annotated[Any, refused_unless([])] = None
    thread: Annotated[Any, REFUSED] = None

    def idle(self) -> Collection[str]:
        """Of two names of one thing the older one."""
        newer = self.output_config is not None and self.output_config.format is not None
        return {"output_format"} if newer else ()
