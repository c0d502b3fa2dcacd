"""The turns of a conversation, gathered: neighbours merged, calls matched with their results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bridge.core.contract import (
    DocumentPart,
    ImagePart,
    InvalidRequestError,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.validation import (
    OWN_IDS,
    bad_result,
    call_id_twice,
    ends_with_assistant,
    json_object,
    unanswered_call,
)


@dataclass(frozen=True, slots=True)
class _Unanswered:
    """A call without a result."""

    name: str
    where: str
    missing: str


class Turns:
    """The turns so far, and the calls of the last one that have no result yet."""

    def __init__(self, field: str, twice: str = OWN_IDS) -> None:
        """`field` holds the conversation; `twice` is what to do where a call is there twice."""
        self._field = field
        self._twice = twice
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
            raise call_id_twice(call_id, field, self._twice)
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
        if not self._turns:
            raise InvalidRequestError(
                f"'{self._field}' holds no turn of the user's. Add a message with the role user.",
                field=self._field,
            )
        role, where, _ = self._turns[-1]
        if role is Role.ASSISTANT:
            raise ends_with_assistant(where)
        return tuple(_message(*turn) for turn in self._turns)

    def _settle(self) -> None:
        for call_id, call in self._unanswered.items():
            raise unanswered_call(call_id, call.where, call.missing)


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


def decode_result(
    call_id: str, parts: Iterable[TextPart | ImagePart | DocumentPart], where: str
) -> ToolResultPart:
    """Read the content of a tool's result; `where` holds it."""
    content: list[TextPart | ImagePart] = []
    for part in parts:
        if isinstance(part, DocumentPart):
            raise bad_result(where)
        content.append(part)
    return ToolResultPart(call_id, tuple(content))


def _message(role: Role, where: str, parts: list[Part]) -> Message:
    if role is Role.USER and not parts:
        parts = [TextPart("")]
    return Message(role, tuple(parts), origin=where)
