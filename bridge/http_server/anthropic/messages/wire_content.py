"""The content of messages in Anthropic's API: blocks, and the sources of media."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from bridge.http_server.wire import NAMED, REFUSED, SILENT, WireModel, named_unless


class CacheControl(WireModel):
    """A breakpoint of the prompt cache."""

    type: Literal["ephemeral"]
    ttl: Annotated[Literal["5m", "1h"] | None, SILENT] = None
    """Claude Code has one lifetime for all breakpoints; the usage says which."""


class CitationsConfig(WireModel):
    """Whether the answer cites a document."""

    enabled: bool | None = None


class TextBlock(WireModel):
    """A piece of text."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: Annotated[Any, named_unless([])] = None
    """Of an earlier answer. Claude Code keeps its text without them."""


class Base64Source(WireModel):
    """Data in the request."""

    type: Literal["base64"]
    media_type: str
    data: str


class UrlLink(WireModel):
    """An address, which the API fetches."""

    type: Literal["url"]
    url: str


class FileReference(WireModel):
    """A file that was uploaded."""

    type: Literal["file"]
    file_id: Annotated[str, REFUSED]


class TextSource(WireModel):
    """A document that is plain text."""

    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: str


ImageSource: TypeAlias = Annotated[
    Base64Source | UrlLink | FileReference, Field(discriminator="type")
]


class ImageBlock(WireModel):
    """An image."""

    type: Literal["image"]
    source: ImageSource
    cache_control: CacheControl | None = None
    transformations: Annotated[Any, NAMED] = None


class ContentSource(WireModel):
    """A document in pieces."""

    type: Literal["content"]
    content: str | list[Annotated[TextBlock | ImageBlock, Field(discriminator="type")]]


DocumentSource: TypeAlias = Annotated[
    Base64Source | UrlLink | FileReference | TextSource | ContentSource,
    Field(discriminator="type"),
]


class DocumentBlock(WireModel):
    """A document."""

    type: Literal["document"]
    source: DocumentSource
    title: str | None = None
    context: str | None = None
    citations: CitationsConfig | None = None
    cache_control: CacheControl | None = None


class SearchResultBlock(WireModel):
    """A passage that a search of the caller has found."""

    type: Literal["search_result"]
    source: str
    title: str
    content: list[TextBlock]
    citations: CitationsConfig | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(WireModel):
    """What the assistant thought."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlock(WireModel):
    """What the assistant thought, encrypted."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(WireModel):
    """A call that the assistant made."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: Annotated[Any, SILENT] = None
    toolset_name: Annotated[Any, SILENT] = None


class ToolReferenceBlock(WireModel):
    """A tool that a search for tools has found."""

    type: Literal["tool_reference"]
    tool_name: str
    cache_control: CacheControl | None = None


class OtherBlock(WireModel):
    """A block of a kind that this server does not support."""

    passed_over = True
    type: str


_MEDIA_KINDS = {"text", "image", "document", "search_result"}
_RESULT_KINDS = frozenset({*_MEDIA_KINDS, "tool_reference"})
_KINDS = frozenset({*_MEDIA_KINDS, "thinking", "redacted_thinking", "tool_use", "tool_result"})


def _kind_among(kinds: Collection[str], block: Any) -> str:
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return kind if isinstance(kind, str) and kind in kinds else "other"


def _kind(block: Any) -> str:
    return _kind_among(_KINDS, block)


def _result_kind(block: Any) -> str:
    return _kind_among(_RESULT_KINDS, block)


ResultBlock: TypeAlias = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[DocumentBlock, Tag("document")]
    | Annotated[SearchResultBlock, Tag("search_result")]
    | Annotated[ToolReferenceBlock, Tag("tool_reference")]
    | Annotated[OtherBlock, Tag("other")],
    Discriminator(_result_kind),
]


class ToolResultBlock(WireModel):
    """What the caller's tool answered."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[ResultBlock] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: Annotated[Any, SILENT] = None


ContentBlock: TypeAlias = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[DocumentBlock, Tag("document")]
    | Annotated[SearchResultBlock, Tag("search_result")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[OtherBlock, Tag("other")],
    Discriminator(_kind),
]
