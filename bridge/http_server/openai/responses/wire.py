"""The request of `POST /v1/responses`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from bridge.http_server.openai.shared.parameters import (
    NAMED,
    REFUSED,
    SILENT,
    named_unless,
    refused_unless,
)
from bridge.http_server.openai.shared.wire import (
    UNSERVED,
    JsonInt,
    Moderation,
    Said,
    StreamOptions,
    Temperature,
    TokenLimit,
    TopP,
    WireModel,
    needing,
)
from bridge.http_server.openai.shared.wire_content import (
    ContentPartInputAudio,
    ContentPartRefusal,
    ContentPartText,
    Detail,
)
from bridge.http_server.openai.shared.wire_tools import FunctionDefinition, FunctionType

ITEM_TYPES: Final = frozenset(
    {"message", "function_call", "function_call_output", "reasoning", "item_reference"}
)
"""The kinds of items that are served."""


class InputText(WireModel):
    """A piece of text, of the user's."""

    type: Literal["input_text"]
    text: str


class OutputText(WireModel):
    """A piece of text, of an earlier answer."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[Any, SILENT] = None
    logprobs: Annotated[Any, SILENT] = None
    parsed: Annotated[Any, SILENT] = None
    """Added by the official client to an answer that it parsed, and sent back with it."""


class InputImage(WireModel):
    """An image, by its address or as a data URL."""

    type: Literal["input_image"]
    model_config = needing("image_url")

    image_url: str | None = None
    file_id: Annotated[str | None, REFUSED] = None
    detail: Detail = None


class InputFile(WireModel):
    """A document, by its data, its address or an id."""

    type: Literal["input_file"]
    file_data: str | None = None
    file_url: str | None = None
    file_id: Annotated[str | None, REFUSED] = None
    filename: str | None = None
    detail: Detail = None

    def idle(self) -> Collection[str]:
        """The data is what counts."""
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
    """A message of anyone's. Many clients leave its type out."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[ItemPart] | None = None
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class FunctionCallItem(WireModel):
    """A call that the assistant made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None
    parsed_arguments: Annotated[Any, SILENT] = None
    """Like `OutputText.parsed`."""


class FunctionOutputItem(WireModel):
    """What the caller's function answered."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[ItemPart]
    id: str | None = None
    status: str | None = None


class ReasoningItem(WireModel):
    """Thinking of an earlier answer."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: Any = None
    content: Any = None
    encrypted_content: str | None = None
    status: str | None = None


class ItemReference(WireModel):
    """An item that the server keeps."""

    # Without a type, more than an id makes it a message.
    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"type": {"const": "item_reference"}}, "required": ["type"]},
            "else": {"propertyNames": {"enum": ["id", "type"]}},
        }
    )

    type: Literal["item_reference"] | None = None
    id: str


class OtherItem(WireModel):
    """An item of a kind that is not served."""

    model_config = UNSERVED

    type: str


def _item_kind(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    if kind is None:
        # So does OpenAI: an id alone is a reference, anything else a message.
        return "item_reference" if isinstance(item, dict) and set(item) <= _REFERENCE else "message"
    return kind if isinstance(kind, str) and kind in ITEM_TYPES else "other"


_REFERENCE: Final = frozenset({"id", "type"})

InputItem: TypeAlias = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[OtherItem, Tag("other")],
    Discriminator(_item_kind),
]


class FunctionTool(FunctionDefinition):
    """A function on offer to the model."""

    type: Literal["function"] | None = None


class OtherTool(WireModel):
    """A tool of a kind that is not served."""

    model_config = UNSERVED

    type: str


def _tool_kind(tool: Any) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "function" if kind in (None, "function") else "other"


ResponseTool: TypeAlias = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[OtherTool, Tag("other")],
    Discriminator(_tool_kind),
]


class NamedTool(WireModel):
    """A tool by its name."""

    model_config = needing("name")

    type: FunctionType = None
    name: str | None = None


class ResponseToolChoice(WireModel):
    """A tool choice that is more than a word."""

    type: Annotated[str, WithJsonSchema({"enum": ["function", "allowed_tools"]})]
    name: str | None = None
    mode: Literal["auto", "required"] | None = None
    tools: list[NamedTool] | None = None

    def idle(self) -> Collection[str]:
        """What belongs to the other kind of choice."""
        return {"mode", "tools"} if self.type == "function" else {"name"}


class TextFormat(WireModel):
    """The shape of the answer."""

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
        """What describes a schema, where there is none."""
        return () if self.type == "json_schema" else {"name", "description", "schema", "strict"}


class TextOptions(WireModel):
    """How the text of the answer is to be."""

    format: TextFormat | None = None
    verbosity: Annotated[Literal["low", "medium", "high"] | None, named_unless("medium")] = None


class Reasoning(WireModel):
    """How hard the model thinks, and whether its thinking is sent."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """The deprecated name of `summary`."""
    context: Annotated[str | None, named_unless("auto")] = None
    mode: Annotated[str | None, named_unless("standard")] = None

    def idle(self) -> Collection[str]:
        """Of two names of one thing the deprecated one."""
        return {"generate_summary"} if self.summary else ()


# wide: the parameters that OpenAI's API documents.
class ResponsesRequest(WireModel):
    """What a caller of `POST /v1/responses` sends. Null is the same as absent."""

    # What has no mark is honoured.
    input: Said | list[InputItem]
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
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
    background: Annotated[bool | None, refused_unless(False)] = None
    background_options: Annotated[Any, NAMED] = None
    conversation: Annotated[Any, REFUSED] = None
    prompt: Annotated[Any, REFUSED] = None
    # It bounds the calls of hosted tools, and there are none.
    max_tool_calls: Annotated[JsonInt | None, SILENT] = None
    top_logprobs: Annotated[Annotated[JsonInt, Field(ge=0)] | None, refused_unless(0)] = None
    truncation: Annotated[Literal["auto", "disabled"] | None, named_unless("disabled")] = None
    context_management: Annotated[Any, named_unless([])] = None
    image: Annotated[Any, NAMED] = None
    access_programs: Annotated[Any, NAMED] = None
    user: Annotated[str | None, SILENT] = None
    safety_identifier: Annotated[str | None, SILENT] = None
    service_tier: Annotated[str | None, SILENT] = None
    prompt_cache_key: Annotated[str | None, SILENT] = None
    prompt_cache_options: Annotated[Any, SILENT] = None
    prompt_cache_retention: Annotated[Any, SILENT] = None
    moderation: Annotated[Moderation | None, NAMED] = None

    def idle(self) -> Collection[str]:
        """Options of a stream without one."""
        return () if self.stream else {"stream_options"}
