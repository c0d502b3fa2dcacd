"""Validates messages, their parts and roles, and tool calls with their results. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from bridge.core.contract import (
    DocumentPart,
    Faults,
    FieldNames,
    ImagePart,
    InlineData,
    InvalidRequestError,
    Message,
    Part,
    Pieces,
    Place,
    Role,
    SearchResultPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    UrlSource,
)
from bridge.core.validation.images import image_fault
from bridge.core.validation.messages import (
    IMAGE_KINDS,
    NOT_EMPTY,
    bad_document,
    bad_image,
    call_id_twice,
    empty_last_message,
    empty_piece,
    failed_without_reason,
    invalid,
    media_misplaced,
    no_data,
    unanswered_call,
    unknown_call,
    unusable_image,
)

_P = TypeVar("_P", bound=Part)

_IMAGE_TYPES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
_DOCUMENT_TYPES: Final = ("application/pdf", "text/plain")

_KINDS: Final[dict[type[Part], str]] = {
    TextPart: ".text",
    ThinkingPart: ".thinking",
    ImagePart: ".image",
    DocumentPart: ".document",
    SearchResultPart: ".search_result",
    ToolCallPart: ".tool_call",
    ToolResultPart: ".tool_result",
}

_SPEAKERS: Final[dict[type[Part], Role | None]] = {
    TextPart: None,
    ThinkingPart: Role.ASSISTANT,
    ImagePart: Role.USER,
    DocumentPart: Role.USER,
    SearchResultPart: Role.USER,
    ToolCallPart: Role.ASSISTANT,
    ToolResultPart: Role.USER,
}
"""The role that may contain each part; None means any."""


def check_turns(messages: Sequence[Message], names: FieldNames) -> None:
    """Raise InvalidRequestError for the faults of a conversation that is to be answered."""
    if not messages:
        raise invalid(names(Place("messages")), NOT_EMPTY)
    for call, where in check_history(messages, names).items():
        raise _unanswered(call, where, names)
    said = next((each for each in reversed(messages) if _says_something(each)), None)
    # What the assistant said last is continued.
    if said is None or (said.role is not Role.USER and messages[-1].role is Role.USER):
        last = Place(f"messages[{len(messages) - 1}]", messages[-1].origin)
        raise empty_last_message(names(last))


def _says_something(message: Message) -> bool:
    # The API refuses blank texts, so they are left out.
    return any(
        part.text.strip() if isinstance(part, TextPart) else not isinstance(part, ThinkingPart)
        for part in message.parts
    )


def check_history(messages: Sequence[Message], names: FieldNames) -> dict[str, _Where]:
    """Raise InvalidRequestError for the faults of the conversation so far.

    Returns the calls of the last message, which have no result yet, by id.
    """
    faults = Faults()
    for index, message in enumerate(messages):
        with faults:
            check_message(message, names, index)
    faults.raise_any()
    return _unanswered_calls(messages, names)


def check_message(message: Message, names: FieldNames, index: int = 0) -> None:
    """Raise InvalidRequestError for the first fault of a message by itself, the `index`th."""
    if not message.parts:
        field = names(Place(f"messages[{index}]", message.origin))
        raise InvalidRequestError(f"'{field}' must have at least one part.", field=field)
    for number, part in enumerate(message.parts):
        if not isinstance(part, TextPart):
            _check_part(_Where(index, message, number), part, names)


class _Where:
    """The position of a part. Paths are built only for errors: most requests are valid."""

    __slots__ = ("index", "message", "number")

    def __init__(self, index: int, message: Message, number: int) -> None:
        self.index = index
        self.message = message
        self.number = number

    def place(self, rest: str = "", *, of_kind: bool = True) -> Place:
        """Return the part, or with `rest` a field of it; not `of_kind`: the part as a whole."""
        part = self.message.parts[self.number]
        rest = f"{_KINDS[type(part)]}{rest}" if of_kind else ""
        return Place(self._path(rest), self._origin(part), rest)

    def inner(self, index: int, part: Part) -> Place:
        """Return a part of a tool result."""
        rest = _KINDS[type(part)]
        path = self._path(f".tool_result.content[{index}]{rest}")
        return Place(path, self._origin(part), rest)

    def _origin(self, part: Part) -> str:
        own = "" if isinstance(part, TextPart) else part.origin
        return own or self.message.origin

    def _path(self, rest: str) -> str:
        return f"messages[{self.index}].parts[{self.number}]{rest}"


def _check_part(where: _Where, part: Part, names: FieldNames) -> None:
    speaker = _SPEAKERS[type(part)]
    if speaker is not None and where.message.role is not speaker:
        field = names(where.place())
        if isinstance(part, ImagePart | DocumentPart | SearchResultPart):
            raise media_misplaced(field)
        raise InvalidRequestError(
            f"'{field}' is allowed only in a message of the role {speaker.value}.", field=field
        )
    match part:
        case ImagePart() | DocumentPart() | SearchResultPart():
            _check_medium(part, where, where.place(), names)
        case ToolCallPart():
            _check_call(part, where, names)
        case ToolResultPart(content=content):
            if part.is_error:
                _check_failed_result(part, where, names)
            for index, piece in enumerate(content):
                if not isinstance(piece, TextPart):
                    _check_medium(piece, where, where.inner(index, piece), names)
        case TextPart() | ThinkingPart():
            pass


def _check_call(call: ToolCallPart, where: _Where, names: FieldNames) -> None:
    if not call.id.strip():
        raise InvalidRequestError("A tool call needs an id.", field=names(where.place(".id")))
    if not call.name:
        raise InvalidRequestError(
            "A tool call needs the name of its tool.", field=names(where.place(".name"))
        )


def _check_failed_result(result: ToolResultPart, where: _Where, names: FieldNames) -> None:
    # https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls
    texts = [item.text for item in result.content if isinstance(item, TextPart)]
    if len(texts) < len(result.content) or not "".join(texts).strip():
        raise failed_without_reason(names(where.place()))


def _check_medium(
    part: ImagePart | DocumentPart | SearchResultPart,
    where: _Where,
    place: Place,
    names: FieldNames,
) -> None:
    if isinstance(part, SearchResultPart):
        _check_pieces(part.content, where, place, names)
        return
    match part.source:
        case Pieces(content):
            _check_pieces(content, where, place, names)
        case UrlSource(url):
            if not url.lower().startswith("https://"):
                raise bad_image(names(place), "Use an https URL or inline data.")
        case InlineData(media_type, data):
            if isinstance(part, DocumentPart):
                if media_type not in _DOCUMENT_TYPES:
                    raise bad_document(names(place), media_type)
            elif media_type not in _IMAGE_TYPES:
                raise bad_image(names(place), IMAGE_KINDS)
            if not data:
                raise no_data(names(place))
            if isinstance(part, ImagePart) and (fault := image_fault(data)):
                message = Place(f"messages[{where.index}]", where.message.origin)
                raise unusable_image(fault, names(message))


def _check_pieces(
    content: Sequence[TextPart | ImagePart], where: _Where, place: Place, names: FieldNames
) -> None:
    if not content:
        raise no_data(names(place))
    for index, piece in enumerate(content):
        if isinstance(piece, ImagePart):
            inner = Place(f"{place.path}.content[{index}].image", piece.origin, ".image")
            _check_medium(piece, where, inner, names)
        elif not piece.text.strip():
            # Leaving it out, as in messages, would change the numbers that citations give.
            raise empty_piece(names(place))


def _unanswered_calls(messages: Sequence[Message], names: FieldNames) -> dict[str, _Where]:
    """Check that every call is answered once, in the next message, and nothing else is answered.

    An id may be reused in a later message: some clients number the calls of each answer from zero.
    """
    waiting: dict[str, _Where] = {}
    for index, message in enumerate(messages):
        for number, part in _of_kind(message, ToolResultPart):
            if waiting.pop(part.call_id, None) is None:
                where = _Where(index, message, number)
                holder = names(where.place(of_kind=False))
                raise unknown_call(part.call_id, holder, names(where.place()))
        for call_id, where in waiting.items():
            raise _unanswered(call_id, where, names)
        for number, call in _of_kind(message, ToolCallPart):
            where = _Where(index, message, number)
            if call.id in waiting:
                raise call_id_twice(call.id, names(where.place()))
            waiting[call.id] = where
    return waiting


def _unanswered(call_id: str, where: _Where, names: FieldNames) -> InvalidRequestError:
    holder = names(where.place(of_kind=False))
    return unanswered_call(call_id, holder, names(where.place(".result")))


def _of_kind(message: Message, kind: type[_P]) -> Iterable[tuple[int, _P]]:
    return ((n, part) for n, part in enumerate(message.parts) if isinstance(part, kind))
