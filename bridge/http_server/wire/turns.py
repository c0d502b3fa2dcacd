"""The turns of a conversation, gathered: neighbours merged, and what is left of nothing."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.core.contract import (
    InvalidRequestError,
    Message,
    Part,
    Role,
    TextPart,
)
from bridge.core.validation import json_object


class Turns:
    """The turns so far."""

    def __init__(self, field: str) -> None:
        """`field` holds the conversation."""
        self._field = field
        self._turns: list[tuple[Role, str, list[Part]]] = []

    def add(self, role: Role, where: str, parts: Iterable[Part]) -> None:
        """Add a message: to the turn of the one before if that has the same role."""
        if self._turns and self._turns[-1][0] is role:
            self._turns[-1][2].extend(parts)
            return
        self._turns.append((role, where, list(parts)))

    def finish(self) -> tuple[Message, ...]:
        """Return the turns; raises if there are none."""
        if not self._turns:
            raise InvalidRequestError(
                f"'{self._field}' has no user message. Add a message with the role user.",
                field=self._field,
            )
        return tuple(
            # A message without content says nothing, and yet it is one.
            Message(role, tuple(parts) or (TextPart(""),), origin=where)
            for role, where, parts in self._turns
        )


def is_json_object(text: str) -> bool:
    """Whether a text is the JSON of an object, as a request may hold it."""
    try:
        json_object(text, "")
    except InvalidRequestError:
        return False
    return True
