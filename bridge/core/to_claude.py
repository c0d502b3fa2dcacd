"""From a request to what the CLI is told: its profile, its settings and its stdin lines.

Pure functions on plain data. The history goes in as real turns; nothing of it is ever
flattened into text.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bridge.core.model import (
    CompletionRequest,
    DocumentPart,
    Effort,
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

Wire: TypeAlias = dict[str, Any]

OPENING_PLACEHOLDER = "(The conversation begins with the assistant.)"
"""The user turn put before a history that starts with the assistant: the Messages API takes
none that does (https://platform.claude.com/docs/en/api/messages)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is fixed for the life of a session, since the CLI takes it at `initialize` only."""

    system_prompt: str | None
    """None: Claude Code's own preset."""


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """What may differ from turn to turn on a warm process; None means the default."""

    model: str | None = None
    effort: str | None = None
    max_output_tokens: int | None = None
    thinking: bool = True
    extra_body: str = ""
    """A JSON object merged into the upstream request, from a closed set of keys; or empty."""


def settings_of(request: CompletionRequest, model: str | None) -> TurnSettings:
    """The settings of a request that is answered by `model` (None: the person's default)."""
    return TurnSettings(model=model, max_output_tokens=request.max_output_tokens)


def setting_changes(before: TurnSettings | None, after: TurnSettings) -> Wire:
    """What `apply_flag_settings` must be told, or an empty dict when nothing differs.

    With `before` None everything is said, defaults too: the person's own settings may hold
    values for the same names, and these must not reach a caller.
    """
    changes: Wire = {}
    env: dict[str, str] = {}
    if before is None or before.model != after.model:
        changes["model"] = after.model
    if before is None or before.effort != after.effort:
        changes["effortLevel"] = after.effort
    if before is None or before.max_output_tokens != after.max_output_tokens:
        limit = after.max_output_tokens
        env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = "" if limit is None else str(limit)
    if before is None or before.thinking != after.thinking:
        env["CLAUDE_CODE_DISABLE_THINKING"] = "" if after.thinking else "1"
    if before is None or before.extra_body != after.extra_body:
        env["CLAUDE_CODE_EXTRA_BODY"] = after.extra_body
    if env:
        changes["env"] = env
    return changes


EFFORT_LEVELS: Mapping[Effort, str] = {
    Effort.NONE: "low",
    Effort.LOW: "low",
    Effort.MEDIUM: "medium",
    Effort.HIGH: "high",
    Effort.XHIGH: "xhigh",
    Effort.MAX: "max",
}
"""The CLI's own names; NONE turns thinking off besides."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn as the Messages API has it: alternating roles, content blocks."""

    role: Role
    content: tuple[Wire, ...]

    @property
    def has_tool_results(self) -> bool:
        """Whether it answers calls; such a turn cannot be rewound to by itself."""
        return any(block["type"] == "tool_result" for block in self.content)


def turns_of(messages: Sequence[Message]) -> tuple[Turn, ...]:
    """The conversation as alternating turns, from the user to the user.

    Neighbours of one role become one turn, as the API itself would make of them; messages
    without content are left out, and a history that starts with the assistant gets
    `OPENING_PLACEHOLDER` before it.
    """
    merged: list[tuple[Role, list[Wire]]] = []
    for message in messages:
        blocks = [block for part in message.parts if (block := _block(part)) is not None]
        if not blocks:
            continue
        if merged and merged[-1][0] is message.role:
            merged[-1][1].extend(blocks)
        else:
            merged.append((message.role, blocks))
    if merged and merged[0][0] is Role.ASSISTANT:
        merged.insert(0, (Role.USER, [{"type": "text", "text": OPENING_PLACEHOLDER}]))
    return tuple(Turn(role, _results_first(blocks)) for role, blocks in merged)


def _results_first(blocks: list[Wire]) -> tuple[Wire, ...]:
    # The API wants a turn's tool results before anything else in it.
    results = [block for block in blocks if block["type"] == "tool_result"]
    return (*results, *(block for block in blocks if block["type"] != "tool_result"))


def _block(part: Part) -> Wire | None:
    match part:
        case TextPart(text):
            # The API takes no empty text block.
            return {"type": "text", "text": text} if text else None
        case ImagePart(source):
            return {"type": "image", "source": _source(source)}
        case DocumentPart(source, title):
            document: Wire = {"type": "document", "source": _source(source)}
            return document if title is None else {**document, "title": title}
        case ToolCallPart(id, name, arguments):
            return {"type": "tool_use", "id": id, "name": name, "input": json.loads(arguments)}
        case ToolResultPart(call_id, content, is_error):
            inner = [block for item in content if (block := _block(item)) is not None]
            result: Wire = {"type": "tool_result", "tool_use_id": call_id, "content": inner}
            return {**result, "is_error": True} if is_error else result


def _source(source: InlineData | UrlSource) -> Wire:
    if isinstance(source, UrlSource):
        return {"type": "url", "url": source.url}
    if source.media_type == "text/plain":
        # The API takes only PDFs and images as base64; a text goes in as such.
        text = base64.b64decode(source.base64).decode("utf-8", "replace")
        return {"type": "text", "media_type": source.media_type, "data": text}
    return {"type": "base64", "media_type": source.media_type, "data": source.base64}


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


def user_line(turn: Turn, *, query: bool, new_id: Callable[[], str] = _new_id) -> UserLine:
    """A user turn; with `query` the model answers it, without it is history.

    Every line is marked `client_composed`: without the mark the CLI would run slash commands
    in it and read local files that it mentions.
    """
    line_id = new_id()
    wire: Wire = {
        "type": "user",
        "message": {"role": "user", "content": list(turn.content)},
        "parent_tool_use_id": None,
        "session_id": "default",
        "client_composed": True,
        "uuid": line_id,
    }
    if not query:
        wire["shouldQuery"] = False
    return UserLine(line_id, wire, rewindable=not turn.has_tool_results)


def assistant_line(turn: Turn) -> Wire:
    """An earlier answer, put into the conversation as it is."""
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
