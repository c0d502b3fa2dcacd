"""Collects the turns of a conversation; adjacent messages of one role are merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, groupby

from bridge.core.contract import (
    InvalidRequestError,
    Message,
    Part,
    Role,
    TextPart,
    placed,
    system_part,
)
from bridge.core.validation import json_object


class Turns:
    """The messages so far."""

    def __init__(self, field: str, instructions: str | None = None) -> None:
        """`field` holds the conversation; `instructions` begin its system prompt."""
        self._field = field
        self._instructions = instructions
        self._messages: list[Message] = []

    def add(self, role: Role, where: str, parts: Iterable[Part]) -> None:
        """Add a message."""
        self._messages.append(Message(role, tuple(parts), origin=where))

    def add_system(self, where: str, texts: Iterable[TextPart]) -> None:
        """Add a system message."""
        if written := [text.text for text in texts]:
            self.add(Role.USER, where, [system_part(written)])

    def finish(self) -> tuple[str | None, tuple[Message, ...]]:
        """Return the system prompt, if there is one, and the turns; raises if there are none."""
        system, messages = placed(self._instructions, self._messages)
        if not messages:
            raise InvalidRequestError(
                f"'{self._field}' has no user message. Add a message with the role user.",
                field=self._field,
            )
        return system, tuple(_merged(messages))


def _merged(messages: Iterable[Message]) -> Iterator[Message]:
    """Make one turn of neighbours that have the same role."""
    for role, group in groupby(messages, lambda message: message.role):
        first, *more = group
        parts = (*first.parts, *chain.from_iterable(message.parts for message in more))
        # A message without content says nothing, and yet it is one.
        yield Message(role, parts or (TextPart(""),), origin=first.origin)


def is_json_object(text: str) -> bool:
    """Whether a text is the JSON of an object, within the limits of a request."""
    try:
        json_object(text, "")
    except InvalidRequestError:
        return False
    return True
