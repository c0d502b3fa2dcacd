"""Whether a request continues a parked conversation: compares normalised conversations. Pure.

A conversation is hashed turn by turn, each hash including the one before, so that its fingerprint
covers all of its content, in order. Differences that the model does not see do not change the
fingerprint: clients send an answer back in other forms than they received it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from bridge.core.claude import Profile, Turn, Wire, definitions_of
from bridge.core.contract import Role, Tool

_SHORT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Scope:
    """What must be equal besides the conversation."""

    caller: str
    profile: Profile
    model: str | None
    effort: str | None
    thinking: bool
    tools: tuple[Tool, ...]


def fingerprint(scope: Scope, turns: Iterable[Turn]) -> str:
    """Return the fingerprint of a conversation so far."""
    digest = _hash(
        "",
        [
            scope.caller,
            _profile(scope.profile),
            scope.model,
            scope.effort,
            scope.thinking,
            definitions_of(scope.tools),
        ],
    )
    for turn in turns:
        digest = _hash(digest, normalised(turn))
    return digest


def _profile(profile: Profile) -> list[Any]:
    return [str(getattr(profile, each.name)) for each in fields(profile)] + [
        profile.system_prompt is None
    ]


def normalised(turn: Turn) -> list[Any]:
    """Return the part of a turn that the model saw.

    An answer is its whole text and its calls with their arguments as data: clients do not return
    the fragments of the text, the layout of the JSON or the position of the calls, and some cut off
    the white space at its end.
    """
    if turn.role is Role.ASSISTANT:
        text = "".join(block["text"] for block in turn.content if block["type"] == "text").rstrip()
        calls = [
            [block["id"], block["name"], block["input"]]
            for block in turn.content
            if block["type"] == "tool_use"
        ]
        return ["assistant", _short(text), calls]
    return ["user", *(_block(block) for block in turn.content)]


def call_ids(turn: Turn) -> tuple[str, ...]:
    """Return the ids of the calls in an answer."""
    return tuple(block["id"] for block in turn.content if block["type"] == "tool_use")


def answers_exactly(calls: Sequence[str], turn: Turn) -> bool:
    """Whether a user turn consists of all the results of these calls and nothing else."""
    blocks = turn.content
    return all(block["type"] == "tool_result" for block in blocks) and sorted(
        block["tool_use_id"] for block in blocks
    ) == sorted(calls)


def _block(block: Wire) -> list[Any]:
    match block["type"]:
        case "text":
            return ["text", _short(block["text"])]
        case "tool_result":
            inner = [_block(item) for item in block["content"]]
            return ["tool_result", block["tool_use_id"], block.get("is_error", False), inner]
        case kind:
            return [kind, _shortened(block)]


def _shortened(data: Any) -> Any:
    match data:
        case str():
            return _short(data)
        case dict():
            return {name: _shortened(value) for name, value in data.items()}
        case list():
            return list(map(_shortened, data))
        case _:
            return data


def _short(text: str) -> str | list[str]:
    """Return a long text as its hash: as JSON it would block other answers."""
    if len(text) <= _SHORT:
        return text
    return [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()]


def _hash(before: str, data: Any) -> str:
    text = json.dumps([before, data], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
