"""The messages of a request: turns, the system prompt, the one breakpoint of the prompt cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from bridge.core.contract import Message, Part, Role, TextPart
from bridge.core.validation import media_misplaced
from bridge.http_server.anthropic.messages.content import decode_block
from bridge.http_server.anthropic.messages.wire import MessageParam, MessagesRequest
from bridge.http_server.anthropic.messages.wire_content import (
    ContentSource,
    DocumentBlock,
    SearchResultBlock,
    TextBlock,
    ToolReferenceBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from bridge.http_server.wire import Ignored, Turns

_ATTRIBUTION: Final = "x-anthropic-billing-header:"
"""The start of a block by which Claude Code tells the API who pays. It is no part of the prompt;
the Claude Code that this server runs sends its own."""

_WHY_BREAKPOINT: Final = (
    "has no effect on this server, which sets all cache breakpoints but the last in the messages"
)


def decode_history(
    request: MessagesRequest, ignored: Ignored
) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt, if there is one, and the turns."""
    turns = Turns("messages", _system(request.system, ignored))
    cached = _cached_block(request.messages, ignored)
    for index, message in enumerate(request.messages):
        where = f"messages[{index}]"
        _name_effort(message, request, where, ignored)
        if message.role == "system":
            turns.add_system(where, _texts(message, where))
        else:
            turns.add(Role(message.role), where, _parts(message, where, cached))
    return turns.finish()


def _system(system: str | Sequence[TextBlock] | None, ignored: Ignored) -> str | None:
    if system is None or isinstance(system, str):
        return system
    # At the end of the system prompt Claude Code itself sets one.
    for index, block in enumerate(system[:-1]):
        if block.cache_control is not None:
            place = f"system[{index}].cache_control"
            ignored.add("system.cache_control", place, why=_WHY_BREAKPOINT)
    texts = (block.text for block in system if not block.text.startswith(_ATTRIBUTION))
    return "\n".join(text for text in texts if text)


def _name_effort(
    message: MessageParam, request: MessagesRequest, where: str, ignored: Ignored
) -> None:
    """Name an effort from this message on that is another than that of the answer."""
    whole = None if request.output_config is None else request.output_config.effort
    effort = None if message.output_config is None else message.output_config.effort
    if effort not in (None, whole):
        ignored.add("messages.output_config.effort", f"{where}.output_config.effort")


def _texts(message: MessageParam, where: str) -> Iterator[TextPart]:
    for part in _parts(message, where, ""):
        if not isinstance(part, TextPart):
            raise media_misplaced(where)
        yield part


def _parts(message: MessageParam, where: str, cached: str) -> Iterator[Part]:
    if isinstance(message.content, str):
        if message.content:
            yield TextPart(message.content)
        return
    for index, block in enumerate(message.content):
        place = f"{where}.content[{index}]"
        part = decode_block(block, place, cached=place == cached)
        if part != TextPart(""):
            yield part


def _cached_block(messages: Sequence[MessageParam], ignored: Ignored) -> str:
    """Return where the last breakpoint is that can be set; name the others.

    The API takes four in a request, of which Claude Code sets three. It does not keep one on a
    call, and system messages become one text.
    """
    found = list(_breakpoints(messages))
    last = next((place for place, settable in reversed(found) if settable), "")
    for place, _ in found:
        if place != last:
            ignored.add(
                "messages.content.cache_control", f"{place}.cache_control", why=_WHY_BREAKPOINT
            )
    return last


def _breakpoints(messages: Sequence[MessageParam]) -> Iterator[tuple[str, bool]]:
    """Yield the block of every breakpoint, and whether it can be set there."""
    for index, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for number, block in enumerate(message.content):
            place = f"messages[{index}].content[{number}]"
            for inner, piece in _inner_blocks(block, place):
                if getattr(piece, "cache_control", None) is not None:
                    yield inner, False
            if getattr(block, "cache_control", None) is not None:
                empty = isinstance(block, TextBlock) and not block.text.strip()
                lost = empty or message.role == "system" or isinstance(block, ToolUseBlock)
                yield place, not lost


def _inner_blocks(block: object, place: str) -> Iterator[tuple[str, object]]:
    """Yield what a block contains, each with its place."""
    match block:
        case ToolResultBlock(content=list(content)) | SearchResultBlock(content=content):
            where = f"{place}.content"
        case DocumentBlock(source=ContentSource(content=list(content))):
            where = f"{place}.source.content"
        case _:
            return
    for index, piece in enumerate(content):
        yield f"{where}[{index}]", piece
        yield from _inner_blocks(piece, f"{where}[{index}]")


def referenced_tools(messages: Sequence[MessageParam]) -> frozenset[str]:
    """Return the tools that searches have found so far."""
    return frozenset(
        piece.tool_name
        for message in messages
        if not isinstance(message.content, str)
        for block in message.content
        if isinstance(block, ToolResultBlock) and isinstance(block.content, list)
        for piece in block.content
        if isinstance(piece, ToolReferenceBlock)
    )
