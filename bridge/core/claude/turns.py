"""From messages to the turns of the Messages API, and to lines on the CLI's stdin. Pure.

The history goes in as real turns; nothing of it is ever flattened into text.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bridge.core.claude.exact_numbers import parsed_exactly
from bridge.core.claude.wire import TOOL_PREFIX, Wire
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
)
from bridge.core.validation import type_of

OPENING_PLACEHOLDER = "(The conversation begins with the assistant.)"
"""The user turn that stands before a history that starts with the assistant: the Messages API takes
none that does (https://platform.claude.com/docs/en/api/messages)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as the Messages API has it: alternating roles, content blocks."""

    role: Role
    content: tuple[Wire, ...]

    @property
    def tool_results(self) -> tuple[Wire, ...]:
        """The results in it. A turn with any cannot be rewound to by itself."""
        return tuple(block for block in self.content if block["type"] == "tool_result")

    @property
    def visible(self) -> bool:
        """Whether there is more in it than blanks."""
        return any(block["type"] != "text" or block["text"].strip() for block in self.content)


def turns_of(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """The conversation as alternating turns, from the user to the user.

    Neighbours of one role become one turn, as the API itself would make of them; messages
    without content, or with nothing but blanks, are left out, and a history that starts with the
    assistant gets `OPENING_PLACEHOLDER` before it.
    """
    merged: list[tuple[Role, list[Wire]]] = []
    for message in messages:
        blocks = _blocks(message.parts)
        if not blocks:
            continue
        if merged and merged[-1][0] is message.role:
            merged[-1][1].extend(blocks)
        else:
            merged.append((message.role, blocks))
    if merged and merged[0][0] is Role.ASSISTANT:
        merged.insert(0, (Role.USER, [{"type": "text", "text": OPENING_PLACEHOLDER}]))
    _make_call_ids_unique(merged)
    return tuple(Turn(role, _results_first(blocks)) for role, blocks in merged)


def _make_call_ids_unique(turns: Sequence[tuple[Role, list[Wire]]]) -> None:
    """Give a call whose id was used before another one, and its result with it.

    Some clients count the calls of each answer from the start, and the CLI drops what it has seen.
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


def _results_first(blocks: list[Wire]) -> tuple[Wire, ...]:
    # The API wants a turn's tool results before anything else in it.
    results = [block for block in blocks if block["type"] == "tool_result"]
    return (*results, *(block for block in blocks if block["type"] != "tool_result"))


def _blocks(parts: Sequence[Part]) -> list[Wire]:
    """Parts as content blocks, without texts of blanks, which the API refuses.

    Blanks beside other text become part of that, so that nothing of it is lost; others are left
    out. Never do other words stand in their place.
    """
    blocks: list[Wire] = []
    blanks = ""
    for part in parts:
        text = part.text if isinstance(part, TextPart) else None
        last = blocks[-1] if blocks and blocks[-1]["type"] == "text" else None
        if text is None:
            blanks = ""
            blocks.append(_block(part))
        elif text.strip():
            blocks.append({"type": "text", "text": blanks + text})
            blanks = ""
        elif last is not None:
            last["text"] += text
        else:
            blanks += text
    return blocks


def _block(part: Part) -> Wire:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(source):
            return {"type": "image", "source": _source(source)}
        case DocumentPart(source, title):
            document: Wire = {"type": "document", "source": _source(source)}
            return document if title is None else {**document, "title": title}
        case ToolCallPart(id, name, arguments):
            return {
                "type": "tool_use",
                "id": legal_id(id),
                "name": TOOL_PREFIX + _legal(name),
                "input": parsed_exactly(arguments)[0],
            }
        case ToolResultPart(call_id, content, is_error):
            result: Wire = {
                "type": "tool_result",
                "tool_use_id": legal_id(call_id),
                "content": _blocks(content),
            }
            return {**result, "is_error": True} if is_error else result


# https://platform.claude.com/docs/en/api/messages: ids and names of tools.
_LEGAL = re.compile(r"[a-zA-Z0-9_-]+")


_LONGEST_NAME = 64


def legal_id(call_id: str) -> str:
    """A call's id as the API takes it: one made elsewhere is mapped, always to the same."""
    if _LEGAL.fullmatch(call_id):
        return call_id
    return "toolu_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _legal(name: str) -> str:
    """A tool's name as the API takes it: only a history made elsewhere can have another."""
    if _LEGAL.fullmatch(name) and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '_', name)[:50]}_{digest}"


def _source(source: InlineData | UrlSource) -> Wire:
    if isinstance(source, UrlSource):
        return {"type": "url", "url": source.url}
    if source.media_type == "text/plain":
        # The API takes only PDFs and images as base64; a text goes in as such.
        text = base64.b64decode(source.base64).decode("utf-8", "replace")
        return {"type": "text", "media_type": source.media_type, "data": text}
    # The API takes an image by its true type only, and clients guess.
    media_type = type_of(source.base64) or source.media_type
    return {"type": "base64", "media_type": media_type, "data": source.base64}


@dataclass(frozen=True, slots=True)
class UserLine:
    """A line on the CLI's stdin that carries a user turn."""

    id: str
    """The line's own uuid, by which it can be rewound."""
    wire: Wire
    rewindable: bool
    """False for tool results: the CLI takes those back with the turn they answer."""


def _new_id() -> str:
    return str(uuid.uuid4())


def user_line(
    turn: Turn,
    *,
    query: bool,
    cache_control: Wire | None = None,
    new_id: Callable[[], str] = _new_id,
) -> UserLine:
    """A user turn; with `query` the model answers it, without it is history.

    Every line is marked `client_composed`: without the mark the CLI would run slash commands
    in it and read local files that it mentions. `cache_control` goes onto its last block.
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
    """An earlier answer, as it is."""
    return {
        "type": "assistant",
        "message": {"role": "assistant", "content": list(turn.content)},
        "parent_tool_use_id": None,
        "session_id": "default",
    }


def replay_lines(
    turns: Sequence[Turn], *, new_id: Callable[[], str] = _new_id
) -> Iterator[UserLine | Wire]:
    """The lines that put earlier turns into an empty conversation, in order."""
    for turn in turns:
        if turn.role is Role.USER:
            yield user_line(turn, query=False, new_id=new_id)
        else:
            yield assistant_line(turn)


class Conversation:
    """What the CLI was sent of a conversation, and which of its turns are still open."""

    def __init__(self, cache_control: Wire | None = None) -> None:
        """Mark the first question of the conversation with `cache_control`."""
        self._cache_control = cache_control
        self._marked = False
        self.lines: list[UserLine] = []
        """The user lines that it holds, the newest last."""
        self.open_turns = 0
        """Turns whose `result` line has not come."""
        self.last_result: Wire = {}
        self.used_builtin_tool = False
        """Whether a tool of the CLI's own was called in it."""

    def question(self, turn: Turn) -> UserLine:
        """The line of a turn that the model is to answer."""
        # The API takes four cache breakpoints a request and the CLI sets three. One set in a
        # user line stays there for the life of the conversation, so only one line has it.
        mark = None if self._marked else self._cache_control
        self._marked = True
        return user_line(turn, query=True, cache_control=mark)

    def sent(self, line: UserLine) -> None:
        """A user line is being sent, which opens a turn."""
        self.lines.append(line)
        self.open_turns += 1

    def ended(self, result: Wire) -> None:
        """A turn has ended."""
        self.open_turns -= 1
        self.last_result = result

    def settled(self) -> bool:
        """Whether no turn is open."""
        return self.open_turns <= 0

    def to_rewind(self) -> UserLine | None:
        """The line to take back next, with all that came after it; None where none can be."""
        while self.lines:
            if self.lines[-1].rewindable:
                return self.lines[-1]
            if len(self.lines) == 1:
                return None
            # Tool results are taken back with the turn that made the calls.
            self.lines.pop()
        return None

    def wiped(self) -> bool:
        """The next question is the first again; gives whether nothing is left of the others."""
        self._marked = False
        return not self.lines and not self.open_turns
