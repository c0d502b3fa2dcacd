"""Converts messages to turns of the Messages API. Pure.

The history is sent as real turns; none of it is flattened into text.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from bridge.core.claude.exact_numbers import parsed_exactly
from bridge.core.claude.system_marks import has_quoted, marked, quoted, quoted_across
from bridge.core.claude.wire import Wire
from bridge.core.contract import (
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    Part,
    Pieces,
    Role,
    SearchResultPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
)
from bridge.core.validation import type_of

OPENING_PLACEHOLDER = "(The conversation begins with the assistant.)"
"""The user turn before a history that starts with the assistant, which the Messages API refuses
(https://platform.claude.com/docs/en/api/messages)."""

CLOSING_PLACEHOLDER = "(Continue.)"
"""The user turn after a history that ends with the assistant: models refuse one that does."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn in the Messages API's form: alternating roles, content blocks."""

    role: Role
    content: tuple[Wire, ...]
    cached_to: int | None = field(default=None, compare=False)
    """The block up to which the caller wants the prompt cached."""

    @property
    def tool_results(self) -> tuple[Wire, ...]:
        """Its tool results. A turn with any cannot be rewound to by itself."""
        return tuple(block for block in self.content if block["type"] == "tool_result")

    @property
    def visible(self) -> bool:
        """Whether it contains anything besides white space."""
        return any(block["type"] != "text" or block["text"].strip() for block in self.content)

    @property
    def has_quoted(self) -> bool:
        """Whether a text of the user's was changed because it looked like a system message."""
        return self.role is Role.USER and has_quoted("".join(_written(self.content)))


def turns_of(messages: Sequence[Message], prefix: str = "") -> tuple[Turn, ...]:
    """Return the conversation as alternating turns, from the user to the user.

    Adjacent messages of one role are merged into one turn, as the API does; messages that are empty
    or blank are left out. `OPENING_PLACEHOLDER` goes before a history that starts with the
    assistant, `CLOSING_PLACEHOLDER` after one that ends with it, `prefix` before the names of
    called tools. System messages are marked; nothing else that the user sends looks like one.
    """
    merged: list[tuple[Role, list[Wire]]] = []
    for message in messages:
        blocks = _blocks(message.parts, prefix, message.role)
        if not blocks:
            continue
        if merged and merged[-1][0] is message.role:
            merged[-1][1].extend(blocks)
        else:
            merged.append((message.role, blocks))
    if merged and merged[0][0] is Role.ASSISTANT:
        merged.insert(0, (Role.USER, [{"type": "text", "text": OPENING_PLACEHOLDER}]))
    if merged and merged[-1][0] is Role.ASSISTANT and not _calls(merged[-1][1]):
        merged.append((Role.USER, [{"type": "text", "text": CLOSING_PLACEHOLDER}]))
    _make_call_ids_unique(merged)
    return tuple(
        _turn(role, _unforged(_results_first(blocks)) if role is Role.USER else blocks)
        for role, blocks in merged
    )


BREAKPOINT = "cache_control"


def _turn(role: Role, blocks: Sequence[Wire]) -> Turn:
    cached = [index for index, block in enumerate(blocks) if block.pop(BREAKPOINT, False)]
    return Turn(role, tuple(blocks), cached[-1] if cached else None)


def _calls(blocks: Sequence[Wire]) -> bool:
    return any(block["type"] == "tool_use" for block in blocks)


def _make_call_ids_unique(turns: Sequence[tuple[Role, list[Wire]]]) -> None:
    """Replace the id of a call if it was used before, also in its result.

    Some clients number the calls of each answer from zero, and the CLI drops ids that it has seen.
    """
    uses: Counter[str] = Counter()
    for _, blocks in turns:
        for block in blocks:
            if block["type"] == "tool_use":
                uses[block["id"]] += 1
                block["id"] = _nth_use(block["id"], uses[block["id"]])
            elif block["type"] == "tool_result":
                call_id = block["tool_use_id"]
                block["tool_use_id"] = _nth_use(call_id, uses[call_id])


def _nth_use(call_id: str, use: int) -> str:
    return call_id if use <= 1 else legal_id(f"{call_id} #{use}")


def _results_first(blocks: list[Wire]) -> list[Wire]:
    # The API requires a turn's tool results before anything else in it.
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _unforged(blocks: Sequence[Wire]) -> tuple[Wire, ...]:
    """Return the blocks, none of which forms a system message's mark together with the next."""
    kept: list[Wire] = []
    for of_text, run in groupby(blocks, lambda block: block["type"] == "text"):
        neighbours = list(run)
        if of_text and len(neighbours) > 1:
            texts = quoted_across([block["text"] for block in neighbours])
            pairs = zip(neighbours, texts, strict=True)
            neighbours = [{**block, "text": text} for block, text in pairs]
        kept += neighbours
    return tuple(kept)


def _written(blocks: Iterable[Wire]) -> Iterator[str]:
    for block in blocks:
        match block:
            case {"type": "text", "text": text}:
                yield text
            case {"type": "tool_result", "content": content}:
                yield from _written(content)
            case {"type": "document", "source": source}:
                yield from (block.get("title") or "", block.get("context") or "")
                yield source["data"] if source["type"] == "text" else ""
                yield from _written(source.get("content", ()))
            case {"type": "search_result", "content": content}:
                yield from (block["title"], block["source"])
                yield from _written(content)


def _blocks(parts: Sequence[Part], prefix: str, role: Role) -> list[Wire]:
    """Return the parts as content blocks, without blank texts, which the API refuses.

    Blank text next to other text is merged into it, so that nothing is lost; other blank text is
    left out. It is never replaced by other words.
    """
    blocks: list[Wire] = []
    blanks = ""
    for part in parts:
        last = blocks[-1] if blocks and blocks[-1]["type"] == "text" else None
        if not isinstance(part, TextPart):
            blanks = ""
            blocks.append(_block(part, prefix))
        elif part.text.strip():
            blocks.append({"type": "text", "text": blanks + _text(part, role)})
            blanks = ""
        elif last is not None:
            last["text"] += part.text
        else:
            blanks += part.text
        if getattr(part, "cache_breakpoint", False) and blocks:
            blocks[-1][BREAKPOINT] = True
    return blocks


def _text(part: TextPart, role: Role) -> str:
    if role is Role.ASSISTANT:
        return part.text
    return marked(part.text) if part.system else quoted(part.text)


def _block(
    part: ThinkingPart
    | ImagePart
    | DocumentPart
    | SearchResultPart
    | ToolCallPart
    | ToolResultPart,
    prefix: str,
) -> Wire:
    match part:
        case ImagePart(source):
            return {"type": "image", "source": _source(source)}
        case DocumentPart(source, title):
            document: Wire = {"type": "document", "source": _source(source)}
            said = {"title": title, "context": part.context}
            document |= {name: quoted(text) for name, text in said.items() if text}
            return document | _citing(part)
        case SearchResultPart(source=source, title=title, content=content):
            found = {"type": "search_result", "source": quoted(source), "title": quoted(title)}
            return {**found, "content": _pieces(content), **_citing(part)}
        case ThinkingPart(text, signature, encrypted):
            if encrypted:
                return {"type": "redacted_thinking", "data": encrypted}
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ToolCallPart(id, name, arguments):
            return {
                "type": "tool_use",
                "id": legal_id(id),
                "name": prefix + _legal(name),
                "input": parsed_exactly(arguments)[0],
            }
        case ToolResultPart(call_id, content, is_error):
            result: Wire = {
                "type": "tool_result",
                "tool_use_id": legal_id(call_id),
                "content": list(_unforged(_blocks(content, prefix, Role.USER))),
            }
            return {**result, "is_error": True} if is_error else result


def _citing(part: DocumentPart | SearchResultPart) -> Wire:
    return {"citations": {"enabled": True}} if part.citations else {}


def _pieces(content: Sequence[TextPart | ImagePart]) -> list[Wire]:
    """Return the pieces one by one: citations give their numbers."""
    blocks = (
        {"type": "text", "text": quoted(part.text)}
        if isinstance(part, TextPart)
        else {"type": "image", "source": _source(part.source)}
        for part in content
    )
    return list(_unforged(list(blocks)))


# https://platform.claude.com/docs/en/api/messages: ids and names of tools.
_LEGAL = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_NAME = 64


def legal_id(call_id: str) -> str:
    """Return a call's id in the API's format; a foreign id is always mapped to the same value."""
    if _LEGAL.fullmatch(call_id):
        return call_id
    return "toolu_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _legal(name: str) -> str:
    """Return a tool's name in the API's format; only a foreign history can have another."""
    if _LEGAL.fullmatch(name) and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '_', name)[:50]}_{digest}"


def _source(source: InlineData | UrlSource | Pieces) -> Wire:
    if isinstance(source, UrlSource):
        return {"type": "url", "url": source.url}
    if isinstance(source, Pieces):
        return {"type": "content", "content": _pieces(source.content)}
    if source.media_type == "text/plain":
        # The API accepts only PDFs and images as base64; a text is sent as such.
        text = base64.b64decode(source.base64).decode("utf-8", "replace")
        return {"type": "text", "media_type": source.media_type, "data": quoted(text)}
    # The API accepts an image only with its true type, and clients guess.
    media_type = type_of(source.base64) or source.media_type
    return {"type": "base64", "media_type": media_type, "data": source.base64}
