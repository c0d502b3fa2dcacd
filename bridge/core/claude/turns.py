"""Converts messages to turns of the Messages API and to lines for the CLI's stdin. Pure.

The history is sent as real turns; none of it is flattened into text.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bridge.core.claude.exact_numbers import parsed_exactly
from bridge.core.claude.wire import Wire
from bridge.core.contract import (
    DocumentPart,
    ImagePart,
    InlineData,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
    has_quoted,
    marked,
    quoted,
    quoted_across,
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
        Turn(role, _unforged(_results_first(blocks)) if role is Role.USER else tuple(blocks))
        for role, blocks in merged
    )


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
            neighbours = [{"type": "text", "text": text} for text in texts]
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
                yield block.get("title") or ""
                yield source["data"] if source["type"] == "text" else ""


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
    return blocks


def _text(part: TextPart, role: Role) -> str:
    if role is Role.ASSISTANT:
        return part.text
    return marked(part.text) if part.system else quoted(part.text)


def _block(part: ImagePart | DocumentPart | ToolCallPart | ToolResultPart, prefix: str) -> Wire:
    match part:
        case ImagePart(source):
            return {"type": "image", "source": _source(source)}
        case DocumentPart(source, title):
            document: Wire = {"type": "document", "source": _source(source)}
            return document if title is None else {**document, "title": quoted(title)}
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


def _source(source: InlineData | UrlSource) -> Wire:
    if isinstance(source, UrlSource):
        return {"type": "url", "url": source.url}
    if source.media_type == "text/plain":
        # The API accepts only PDFs and images as base64; a text is sent as such.
        text = base64.b64decode(source.base64).decode("utf-8", "replace")
        return {"type": "text", "media_type": source.media_type, "data": quoted(text)}
    # The API accepts an image only with its true type, and clients guess.
    media_type = type_of(source.base64) or source.media_type
    return {"type": "base64", "media_type": media_type, "data": source.base64}


@dataclass(frozen=True, slots=True)
class UserLine:
    """A line on the CLI's stdin that carries a user turn."""

    id: str
    """The line's own uuid, by which it can be rewound."""
    wire: Wire
    rewindable: bool
    """False for tool results: the CLI rewinds those with the turn they answer."""


def _new_id() -> str:
    return str(uuid.uuid4())


def user_line(
    turn: Turn,
    *,
    query: bool,
    cache_control: Wire | None = None,
    new_id: Callable[[], str] = _new_id,
) -> UserLine:
    """Return a user turn; with `query` the model answers it, without it is history.

    Every line is marked `client_composed`: otherwise the CLI would run slash commands in it and
    read local files that it mentions. `cache_control` is set on its last block.
    """
    line_id = new_id()
    content = list(turn.content)
    if cache_control is not None:
        content[-1] = {**content[-1], "cache_control": cache_control}
    wire: Wire = {
        "type": "user",
        "message": {"role": "user", "content": content},
        "parent_tool_use_id": None,
        "session_id": "default",
        "client_composed": True,
        "uuid": line_id,
    }
    if not query:
        wire["shouldQuery"] = False
    return UserLine(line_id, wire, rewindable=not turn.tool_results)


def assistant_line(turn: Turn) -> Wire:
    """Return an earlier answer, unchanged."""
    return {
        "type": "assistant",
        "message": {"role": "assistant", "content": list(turn.content)},
        "parent_tool_use_id": None,
        "session_id": "default",
    }


def replay_lines(
    turns: Sequence[Turn], *, new_id: Callable[[], str] = _new_id
) -> Iterator[UserLine | Wire]:
    """Return the lines that add earlier turns to an empty conversation, in order."""
    for turn in turns:
        if turn.role is Role.USER:
            yield user_line(turn, query=False, new_id=new_id)
        else:
            yield assistant_line(turn)


class Conversation:
    """What was sent to the CLI in a conversation, and which of its turns are still open."""

    def __init__(self, cache_control: Wire | None = None) -> None:
        """Mark the first question of the conversation with `cache_control`."""
        self._cache_control = cache_control
        self._marked = False
        self.lines: list[UserLine] = []
        """The user lines in it, the newest last."""
        self.open_turns = 0
        """Turns whose `result` line has not arrived."""
        self.last_result: Wire = {}
        self.used_builtin_tool = False
        """Whether one of the CLI's own tools was called in it."""

    def question(self, turn: Turn) -> UserLine:
        """Return the line of a turn that the model is to answer."""
        # The API accepts four cache breakpoints per request and the CLI sets three. One in a user
        # line stays there for the life of the conversation, so only one line has it.
        mark = None if self._marked else self._cache_control
        self._marked = True
        return user_line(turn, query=True, cache_control=mark)

    def sent(self, line: UserLine) -> None:
        """Record a user line that is being sent; it opens a turn."""
        self.lines.append(line)
        self.open_turns += 1

    def ended(self, result: Wire) -> None:
        """Record the end of a turn."""
        self.open_turns -= 1
        self.last_result = result

    def settled(self) -> bool:
        """Whether no turn is open."""
        return self.open_turns <= 0

    def to_rewind(self) -> UserLine | None:
        """Return the line to rewind to next, with all that follows it; None if there is none."""
        while self.lines:
            if self.lines[-1].rewindable:
                return self.lines[-1]
            if len(self.lines) == 1:
                return None
            # Tool results are rewound with the turn that made the calls.
            self.lines.pop()
        return None

    def wiped(self) -> bool:
        """Reset, so that the next question is the first again; return whether nothing else is
        left."""
        self._marked = False
        return not self.lines and not self.open_turns
