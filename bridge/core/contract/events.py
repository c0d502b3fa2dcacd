"""The events of an answer, which the engine streams to a front end.

Exactly one `Started` comes first and exactly one `Finished` last; a stream that ends in neither
`Finished` nor an error was cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from bridge.core.contract.request import JsonObject
from bridge.core.contract.usage import Charge, Usage


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
    usage: Usage = field(default=Usage(), compare=False)
    """Tokens so far: those of the prompt."""
    payer: str = ""
    """The payer of the answer; empty if the server has no list of payers."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class TextStart:
    """A block of text starts, if the request asks for citations: they belong to a block."""

    cited: bool
    """Whether it may have citations."""


@dataclass(frozen=True, slots=True)
class Citation:
    """What the current block of text is based on, if the request asks for citations."""

    location: JsonObject
    """Where that is, in the API's own words."""


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of the model's thinking, if the request asks for it."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingSignature:
    """The end of a run of thinking, if the request asks for signatures."""

    signature: str


@dataclass(frozen=True, slots=True)
class EncryptedThinking:
    """Thinking that the API gives out encrypted only, if the request asks for signatures."""

    data: str


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
    stop_reason: str | None = field(default=None, compare=False)
    """The model's own word for the reason, if it is the model that ended the answer."""
    stop_details: JsonObject | None = field(default=None, compare=False)
    """What the API says about the reason."""
    charge: Charge | None = field(default=None, compare=False)
    """What the request cost, if it asks for that."""


Event: TypeAlias = (
    Started
    | TextStart
    | TextDelta
    | Citation
    | ThinkingDelta
    | ThinkingSignature
    | EncryptedThinking
    | ToolCallStart
    | ToolCallDelta
    | Finished
)
