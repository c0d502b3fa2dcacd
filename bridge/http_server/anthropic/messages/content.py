"""The blocks of messages: text, media, tool results."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TypeAlias, assert_never

from bridge.core.contract import (
    DocumentPart,
    ImagePart,
    InlineData,
    Part,
    Pieces,
    SearchResultPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    UnsupportedError,
    UrlSource,
)
from bridge.http_server.anthropic.messages.wire_content import (
    Base64Source,
    CitationsConfig,
    ContentBlock,
    ContentSource,
    DocumentBlock,
    FileReference,
    ImageBlock,
    OtherBlock,
    RedactedThinkingBlock,
    ResultBlock,
    SearchResultBlock,
    TextBlock,
    TextSource,
    ThinkingBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlLink,
)
from bridge.http_server.wire import checked_base64

ResultPart: TypeAlias = TextPart | ImagePart | DocumentPart | SearchResultPart

FOUND = "The tool {name} is available now."
"""What the model reads in place of a reference to a tool, which is on offer from then on. The CLI
would replace the reference by a remark that it was removed."""


def decode_block(block: ContentBlock, where: str, *, cached: bool = False) -> Part:
    """Read a block of a message; `cached`: it has the breakpoint of the prompt cache."""
    match block:
        case TextBlock():
            return TextPart(block.text, cache_breakpoint=cached)
        case ImageBlock():
            return _image(block, where, cached)
        case DocumentBlock():
            return _document(block, where, cached)
        case SearchResultBlock():
            return _search_result(block, where, cached)
        case ThinkingBlock():
            return ThinkingPart(block.thinking, block.signature, origin=where)
        case RedactedThinkingBlock():
            return ThinkingPart(encrypted=block.data, origin=where)
        case ToolUseBlock():
            arguments = json.dumps(block.input, ensure_ascii=False)
            return ToolCallPart(block.id, block.name, arguments, origin=where)
        case ToolResultBlock():
            content = _result_content(block.content, f"{where}.content")
            return ToolResultPart(block.tool_use_id, content, block.is_error is True, where, cached)
        case OtherBlock():
            raise _unsupported(block, where)
        case _:
            assert_never(block)


def _result_content(
    content: str | Sequence[ResultBlock] | None, where: str
) -> tuple[ResultPart, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    return tuple(
        _result_part(block, f"{where}[{index}]") for index, block in enumerate(content or ())
    )


def _result_part(block: ResultBlock, where: str) -> ResultPart:
    match block:
        case TextBlock():
            return TextPart(block.text)
        case ImageBlock():
            return _image(block, where, False)
        case DocumentBlock():
            return _document(block, where, False)
        case SearchResultBlock():
            return _search_result(block, where, False)
        case ToolReferenceBlock():
            return TextPart(FOUND.format(name=block.tool_name))
        case OtherBlock():
            raise _unsupported(block, where)
        case _:
            assert_never(block)


def _unsupported(block: OtherBlock, where: str) -> UnsupportedError:
    return UnsupportedError(
        f"'{where}' is a block of the type '{block.type[:64]}', which this server does not "
        "support. Remove it, or send its content as text.",
        field=f"{where}.type",
    )


def _image(block: ImageBlock, where: str, cached: bool) -> ImagePart:
    return ImagePart(_source(block.source, f"{where}.source"), where, cached)


def _document(block: DocumentBlock, where: str, cached: bool) -> DocumentPart:
    if isinstance(block.source, ContentSource):
        source: InlineData | UrlSource | Pieces = _pieces(block.source, f"{where}.source.content")
    else:
        source = _source(block.source, f"{where}.source")
    return DocumentPart(
        source,
        block.title or None,
        where,
        block.context or None,
        cached,
        _cites(block.citations),
    )


def _pieces(source: ContentSource, where: str) -> Pieces:
    if isinstance(source.content, str):
        return Pieces((TextPart(source.content),))
    pieces = (
        TextPart(piece.text)
        if isinstance(piece, TextBlock)
        else _image(piece, f"{where}[{index}]", False)
        for index, piece in enumerate(source.content)
    )
    return Pieces(tuple(pieces))


def _search_result(block: SearchResultBlock, where: str, cached: bool) -> SearchResultPart:
    texts = tuple(TextPart(piece.text) for piece in block.content)
    citing = _cites(block.citations)
    return SearchResultPart(block.source, block.title, texts, citing, where, cached)


def _cites(config: CitationsConfig | None) -> bool:
    return config is not None and config.enabled is True


def _source(
    source: Base64Source | UrlLink | FileReference | TextSource, where: str
) -> InlineData | UrlSource:
    match source:
        case UrlLink():
            return UrlSource(source.url)
        case Base64Source():
            return InlineData(source.media_type, checked_base64(source.data, f"{where}.data"))
        case TextSource():
            data = base64.b64encode(source.data.encode("utf-8", "replace")).decode("ascii")
            return InlineData("text/plain", data)
        case FileReference():
            raise UnsupportedError(
                f"'{where}.file_id': this server stores no files. Send the data as base64.",
                field=f"{where}.file_id",
            )
        case _:
            assert_never(source)
