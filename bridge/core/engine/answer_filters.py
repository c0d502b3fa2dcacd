"""Filters for what the bridge itself enforces in an answer if the model's API does not. Pure.

Each filter is fed the events of an answer and yields events: `StopFilter` ends it at a stop text,
`JsonFilter` reduces it to one JSON object, `RequiredCallFilter` requires a tool call. Events that
may still prove unfit are held back, so that the model can be asked again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Protocol

from bridge.core.contract import (
    Citation,
    Event,
    Finished,
    FinishReason,
    TextDelta,
    TextStart,
    ToolCallStart,
)
from bridge.core.validation import UnfitAnswerError


class AnswerFilter(Protocol):
    """Takes the events of an answer one by one and yields those that are passed on."""

    def feed(self, event: Event) -> Iterator[Event]:
        """Yield the events to pass on; raises UnfitAnswerError."""
        ...


class StopFilter:
    """Ends the answer at the first stop text, which is not part of it."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        # This many characters may be the start of a stop text.
        self._hold = max(map(len, texts)) - 1
        self._held = ""
        self.found: str | None = None
        """The stop text that ended the answer."""

    def feed(self, event: Event) -> Iterator[Event]:
        if self.found is not None:
            return
        if isinstance(event, TextDelta):
            yield from self._text(event.text)
            return
        if self._held and isinstance(event, Finished | ToolCallStart | TextStart | Citation):
            yield TextDelta(self._held)
            self._held = ""
        yield event

    def _text(self, text: str) -> Iterator[Event]:
        self._held += text
        places = [(at, text) for text in self._texts if (at := self._held.find(text)) >= 0]
        if places:
            at, self.found = min(places)
            self._held, text = "", self._held[:at]
        else:
            cut = max(len(self._held) - self._hold, 0)
            text, self._held = self._held[:cut], self._held[cut:]
        if text:
            yield TextDelta(text)


class JsonFilter:
    """Passes on one JSON object, compact, and nothing around it.

    Text before it (a fence, a remark) and after it is dropped. If the answer also has a tool call,
    text is kept as it is.
    """

    def __init__(self) -> None:
        self.whole: str | None = None
        """The complete object, which is still to be checked against a schema."""
        self._scanner = JsonScanner()
        self._before: list[str] = []
        self._text: list[str] = []
        self._calls = False

    def feed(self, event: Event) -> Iterator[Event]:
        if isinstance(event, TextDelta):
            if not self._scanner.begun:
                self._before.append(event.text)
                if "".join(self._before).lstrip().startswith("["):
                    raise UnfitAnswerError("is a JSON array, not an object")
            compact = self._scanner.feed(event.text)
            if not self._scanner.begun:
                return
            if compact:
                self._text.append(compact)
                yield TextDelta(compact)
            return
        if isinstance(event, ToolCallStart):
            if not self._calls and not self._scanner.begun and (text := "".join(self._before)):
                yield TextDelta(text)
            self._calls = True
        elif isinstance(event, Finished) and event.reason is FinishReason.STOP:
            self._finish()
        yield event

    def _finish(self) -> None:
        if not self._scanner.complete:
            raise UnfitAnswerError("is not a JSON object")
        whole = "".join(self._text)
        try:
            json.loads(whole)
        except (ValueError, RecursionError) as error:
            raise UnfitAnswerError("is not valid JSON") from error
        self.whole = whole


class _Place(Enum):
    """The position of a scanner."""

    BEFORE = auto()
    STRUCTURE = auto()
    STRING = auto()
    ESCAPE = auto()
    """After a backslash in a string."""
    AFTER = auto()


class JsonScanner:
    """Finds the first JSON object in a text that arrives in pieces, and removes white space."""

    def __init__(self) -> None:
        self._depth = 0
        self._place = _Place.BEFORE

    @property
    def begun(self) -> bool:
        """Whether the object has started."""
        return self._place is not _Place.BEFORE

    @property
    def complete(self) -> bool:
        """Whether it has ended."""
        return self._place is _Place.AFTER

    def feed(self, text: str) -> str:
        """Return the part of the piece that belongs to the object."""
        if not self.begun:
            start = text.find("{")
            if start < 0:
                return ""
            self._place = _Place.STRUCTURE
            text = text[start:]
        kept: list[str] = []
        for character in text:
            if self._place is _Place.AFTER:
                break
            if self._place is _Place.ESCAPE:
                kept.append(character)
                self._place = _Place.STRING
            elif self._place is _Place.STRING:
                kept.append(character)
                if character == "\\":
                    self._place = _Place.ESCAPE
                elif character == '"':
                    self._place = _Place.STRUCTURE
            elif not character.isspace():
                kept.append(character)
                self._structure(character)
        return "".join(kept)

    def _structure(self, character: str) -> None:
        if character == '"':
            self._place = _Place.STRING
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            if self._depth == 0:
                self._place = _Place.AFTER


class RequiredCallFilter:
    """Requires that the answer calls a tool, if the API does not enforce it."""

    def __init__(self, name: str | None) -> None:
        """`name` is the required tool; None means any."""
        self._name = name
        self._held: list[Event] = []
        self._called = False

    def feed(self, event: Event) -> Iterator[Event]:
        if isinstance(event, TextDelta | TextStart | Citation) and not self._called:
            self._held.append(event)
            return
        if isinstance(event, ToolCallStart):
            self._called = True
            yield from self._held
            self._held = []
        elif isinstance(event, Finished) and not self._called:
            if event.reason is FinishReason.STOP:
                wanted = "a tool" if self._name is None else f"the tool {self._name}"
                raise UnfitAnswerError(f"does not call {wanted}")
            yield from self._held
        yield event


def filtered(events: Sequence[Event], filters: Sequence[AnswerFilter]) -> Sequence[Event]:
    """Pass events through all filters, in order."""
    for each in filters:
        events = [given for event in events for given in each.feed(event)]
    return events
