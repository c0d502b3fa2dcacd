"""The events of an answer, which the engine streams to a front end.

Exactly one `Started` comes first and exactly one `Finished` last; a stream that ends in neither
`Finished` nor an error was cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from bridge.core.contract.usage import Usage


class FinishReason(StrEnum):
    """Why the answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Started:
    """The model started to answer."""

    model: str
    """The model that answers, by its full name."""
    ignored: tuple[str, ...] = ()
    """Parameters of the request that had no effect."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of the model's thinking, if the request asks for it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """The model calls a tool; its arguments follow in fragments."""

    index: int
    """The number of the call in this answer, from 0, without gaps."""
    id: str
    name: str
    free_text: bool = False
    """Whether the tool takes one free text: the fragments are of that text, not of JSON."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of the JSON text of a call's arguments, or of its free text."""

    index: int
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete."""

    reason: FinishReason
    usage: Usage
    stop_sequence: str | None = None


Event: TypeAlias = Started | TextDelta | ThinkingDelta | ToolCallStart | ToolCallDelta | Finished
