"""The turns of a conversation, gathered: neighbours merged, calls matched with their results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bridge.core.bounds import json_object
from bridge.core.errors import InvalidRequestError
from bridge.core.model import (
    DocumentPart,
    ImagePart,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)


@dataclass(frozen=True, slots=True)
class Wording:
    """How an API speaks of turns, for its errors."""

    field: str
    """The parameter that holds the conversation."""
    call_id: str
    """The field of a result that names its call."""
    result: str
    """What a result is sent as."""
    user: str
    """How a conversation must end."""
    once: str = "Give each call an id of its own."
    """What to do where a call is there twice."""


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A call without a result."""

    name: str
    where: str
    missing: str


class Turns:
    """The turns so far, and the calls of the last one that have no result yet."""

    def __init__(self, wording: Wording) -> None:
        self._wording = wording
        self._turns: list[tuple[Role, str, list[Part]]] = []
        self._unanswered: dict[str, _Unanswered] = {}
        """By the id of the call."""

    def add(self, role: Role, where: str, parts: Iterable[Part]) -> None:
        """Add a message: to the turn of the one before if that has the same role."""
        if self._turns and self._turns[-1][0] is role:
            self._turns[-1][2].extend(parts)
            return
        if role is Role.ASSISTANT:
            self._settle()
        self._turns.append((role, where, list(parts)))

    def expect(self, call_id: str, name: str, where: str, field: str, missing: str) -> None:
        """Note a call of the assistant's: its result must follow.

        It was made in `where`, and `field` holds its id; `missing` is to blame if no result comes.
        """
        if call_id in self._unanswered:
            raise InvalidRequestError(
                f"The tool call id '{call_id}' is used twice in one turn. {self._wording.once}",
                field=field,
            )
        self._unanswered[call_id] = _Unanswered(name, where, missing)

    def answer(self, call_id: str | None) -> bool:
        """Take a result for a call; says whether there was such a call."""
        return call_id is not None and self._unanswered.pop(call_id, None) is not None

    def answer_function(self, name: str | None) -> str | None:
        """Take a result for a function of this name, and return the id of the call."""
        for call_id, call in self._unanswered.items():
            if call.name == name:
                del self._unanswered[call_id]
                return call_id
        return None

    def finish(self) -> tuple[Message, ...]:
        """Return the turns; raises if no answer can follow them."""
        self._settle()
        words = self._wording
        if not self._turns:
            raise InvalidRequestError(
                f"'{words.field}' holds no turn of the user's. Add a message with the role user.",
                field=words.field,
            )
        role, where, _ = self._turns[-1]
        if role is Role.ASSISTANT:
            raise InvalidRequestError(
                "The last message is the assistant's, and Claude does not continue it. "
                f"End with {words.user}.",
                field=where,
            )
        return tuple(_message(*turn) for turn in self._turns)

    def _settle(self) -> None:
        words = self._wording
        for call_id, call in self._unanswered.items():
            raise InvalidRequestError(
                f"The tool call '{call_id}' in '{call.where}' has no result. Each call must be "
                f"followed by {words.result} with its {words.call_id}.",
                field=call.missing,
            )


def decode_call(call_id: str, name: str, arguments: str, where: str) -> ToolCallPart:
    """Read a call that the assistant made; its arguments are the text of a JSON object."""
    # Some clients write no arguments at all for a function without parameters.
    arguments = arguments.strip() or "{}"
    json_object(arguments, f"{where}.arguments")
    return ToolCallPart(call_id, name, arguments)


def is_json_object(text: str) -> bool:
    """Whether a text is the JSON of an object, as a request may hold it."""
    try:
        json_object(text, "")
    except InvalidRequestError:
        return False
    return True


def unknown_call(where: str, call_id: str, field: str) -> InvalidRequestError:
    """Say that a result answers no call."""
    return InvalidRequestError(
        f"'{where}' answers the tool call '{call_id}', which the assistant's turn before it "
        "did not make, or which has a result already.",
        field=f"{where}.{field}",
    )


def decode_result(
    call_id: str, parts: Iterable[TextPart | ImagePart | DocumentPart], where: str
) -> ToolResultPart:
    """Read the content of a tool's result; `where` holds it."""
    content: list[TextPart | ImagePart] = []
    for part in parts:
        if isinstance(part, DocumentPart):
            raise InvalidRequestError(
                f"'{where}': a tool's result may hold text and pictures only.", field=where
            )
        content.append(part)
    return ToolResultPart(call_id, tuple(content))


def _message(role: Role, where: str, parts: list[Part]) -> Message:
    if role is Role.USER and not parts:
        parts = [TextPart("")]
    return Message(role, tuple(parts), origin=where)
