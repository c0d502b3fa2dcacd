"""The items of a Responses request."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import ConfigDict, Discriminator, Field, Tag

from bridge.http_server.openai.responses.wire_tools import ResponseTool
from bridge.http_server.openai.shared.wire_content import (
    ContentPartInputAudio,
    ContentPartRefusal,
    ContentPartText,
    Detail,
)
from bridge.http_server.wire import REFUSED, SILENT, UNSERVED, WireModel, needing

ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

ITEM_TYPES: Final = frozenset(
    {
        *("message", "reasoning", "item_reference", "additional_tools", "configuration_update"),
        *("function_call", "function_call_output", "tool_search_call", "tool_search_output"),
        *("custom_tool_call", "custom_tool_call_output"),
        *("compaction", "compaction_trigger"),
    }
)
"""The kinds of items that are served."""


class InputText(WireModel):
    """A text of the user."""

    type: Literal["input_text"]
    text: str


class OutputText(WireModel):
    """A text of an earlier answer."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[Any, SILENT] = None
    logprobs: Annotated[Any, SILENT] = None
    parsed: Annotated[Any, SILENT] = None
    """Added by the official client to an answer that it parsed, and sent back with it."""


class InputImage(WireModel):
    """An image: an https URL or a data URL."""

    type: Literal["input_image"]
    model_config = needing("image_url")

    image_url: str | None = None
    file_id: Annotated[str | None, REFUSED] = None
    detail: Detail = None


class InputFile(WireModel):
    """A document: its data, its URL or an id."""

    type: Literal["input_file"]
    file_data: str | None = None
    file_url: str | None = None
    file_id: Annotated[str | None, REFUSED] = None
    filename: str | None = None
    detail: Detail = None

    def idle(self) -> Collection[str]:
        """A URL or an id beside the data, which takes precedence."""
        return () if self.file_data is None else {"file_url"}


ItemPart: TypeAlias = Annotated[
    InputText
    | OutputText
    | InputImage
    | InputFile
    | ContentPartText
    | ContentPartRefusal
    | ContentPartInputAudio,
    Field(discriminator="type"),
]


class MessageItem(WireModel):
    """A message. Many clients omit its type."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ItemPart] | None = None
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class FunctionCallItem(WireModel):
    """A function call made by the assistant."""

    type: Literal["function_call"]
    call_id: str
    name: str
    namespace: str | None = None
    arguments: str
    id: str | None = None
    status: str | None = None
    parsed_arguments: Annotated[Any, SILENT] = None
    """Like `OutputText.parsed`."""


class FunctionOutputItem(WireModel):
    """The result of a function call."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[ItemPart]
    id: str | None = None
    status: str | None = None


class CustomCallItem(WireModel):
    """A call of a tool that takes one free text."""

    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    namespace: str | None = None
    input: str
    id: str | None = None
    status: str | None = None


class CustomOutputItem(WireModel):
    """The result of such a call."""

    type: Literal["custom_tool_call_output"]
    call_id: str
    output: str | list[ItemPart]
    name: Annotated[Any, SILENT] = None
    id: str | None = None
    status: str | None = None


class SearchCallItem(WireModel):
    """A search for tools, made by the assistant."""

    type: Literal["tool_search_call"]
    call_id: str | None = None
    arguments: Any = None
    execution: str | None = None
    id: str | None = None
    status: str | None = None


class SearchOutputItem(WireModel):
    """The tools that a search found; from then on they are offered."""

    type: Literal["tool_search_output"]
    call_id: str | None = None
    tools: list[ResponseTool]
    execution: str | None = None
    id: str | None = None
    status: str | None = None


class AdditionalToolsItem(WireModel):
    """Further offered tools."""

    type: Literal["additional_tools"]
    tools: list[ResponseTool]
    role: Annotated[Any, SILENT] = None
    id: str | None = None


class ConfiguredReasoning(WireModel):
    """The effort of the model from then on."""

    effort: ReasoningEffort | None = None


class ConfigurationItem(WireModel):
    """A change of settings in the conversation."""

    type: Literal["configuration_update"]
    reasoning: ConfiguredReasoning | None = None
    id: str | None = None


class CompactionItem(WireModel):
    """A summary of all that came before it, which this server made."""

    type: Literal["compaction"]
    encrypted_content: str
    id: str | None = None
    created_by: Annotated[Any, SILENT] = None


class CompactionTriggerItem(WireModel):
    """Asks for such a summary instead of an answer."""

    type: Literal["compaction_trigger"]
    id: str | None = None


class ReasoningItem(WireModel):
    """Thinking of an earlier answer."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: Any = None
    content: Any = None
    encrypted_content: str | None = None
    status: str | None = None


class ItemReference(WireModel):
    """A reference to a stored item."""

    # Without a type, anything besides an id makes it a message.
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"type": {"const": "item_reference"}}, "required": ["type"]},
            "else": {"propertyNames": {"enum": ["id", "type"]}},
        }
    )

    type: Literal["item_reference"] | None = None
    id: str


class HostedItem(WireModel):
    """The work of another server's hosted tool in an earlier answer."""

    passed_over = True

    type: Literal[
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "computer_call",
        "image_generation_call",
        "mcp_list_tools",
        "mcp_call",
        "mcp_approval_request",
    ]


class OtherItem(WireModel):
    """An unsupported item."""

    model_config = UNSERVED

    type: str


def _item_kind(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    if kind is None:
        # As at OpenAI: an id alone is a reference, anything else a message.
        return "item_reference" if isinstance(item, dict) and set(item) <= _REFERENCE else "message"
    if isinstance(kind, str) and kind in ITEM_TYPES:
        return kind
    return "hosted" if isinstance(kind, str) and kind in _HOSTED else "other"


_HOSTED: Final = frozenset(get_args(HostedItem.model_fields["type"].annotation))


_REFERENCE: Final = frozenset({"id", "type"})

InputItem: TypeAlias = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[CustomCallItem, Tag("custom_tool_call")]
    | Annotated[CustomOutputItem, Tag("custom_tool_call_output")]
    | Annotated[SearchCallItem, Tag("tool_search_call")]
    | Annotated[SearchOutputItem, Tag("tool_search_output")]
    | Annotated[AdditionalToolsItem, Tag("additional_tools")]
    | Annotated[ConfigurationItem, Tag("configuration_update")]
    | Annotated[CompactionItem, Tag("compaction")]
    | Annotated[CompactionTriggerItem, Tag("compaction_trigger")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[HostedItem, Tag("hosted")]
    | Annotated[OtherItem, Tag("other")],
    Discriminator(_item_kind),
]


def references_of(items: str | Sequence[InputItem]) -> list[ItemReference]:
    """Return the items that only name one which the server keeps."""
    if isinstance(items, str):
        return []
    return [item for item in items if isinstance(item, ItemReference)]
