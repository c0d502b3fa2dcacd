"""What every request must keep to, whatever it is written in.

Pure functions over the neutral model; the first fault found is raised, named in the caller's
own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NoReturn

from bridge.core.contract import (
    CompletionRequest,
    DocumentPart,
    ImagePart,
    InlineData,
    InvalidRequestError,
    Message,
    OutputKind,
    Part,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolMode,
    ToolResultPart,
    UrlSource,
)
from bridge.core.validation import (
    IMAGE_KINDS,
    NOT_EMPTY,
    TOOL_NAME,
    bad_document,
    bad_image,
    call_id_twice,
    ends_with_assistant,
    invalid,
    json_object,
    media_misplaced,
    missing,
    no_data,
    no_such_tool,
    tool_twice,
    unanswered_call,
    unknown_call,
    without_tools,
)

MAX_STOP: Final = 4

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_DOCUMENT_TYPES = ("application/pdf", "text/plain")

_KINDS: Final[dict[type[Part], str]] = {
    TextPart: "text",
    ImagePart: "image",
    DocumentPart: "document",
    ToolCallPart: "tool_call",
    ToolResultPart: "tool_result",
}

_SPEAKERS: Final[dict[type[Part], Role | None]] = {
    TextPart: None,
    ImagePart: Role.USER,
    DocumentPart: Role.USER,
    ToolCallPart: Role.ASSISTANT,
    ToolResultPart: Role.USER,
}
"""Who may say what; None: anyone."""


def _path(message: Message, index: int) -> str:
    """Name a part as the proto does: `messages[2].parts[0].image`."""
    return f"{message.origin}.parts[{index}].{_KINDS[type(message.parts[index])]}"


def check_request(request: CompletionRequest) -> None:
    """Raise InvalidRequestError for the first fault of a request."""
    _check_messages(request.messages)
    check_settings(request)


def check_history(messages: tuple[Message, ...]) -> None:
    """Raise InvalidRequestError for the first fault of what was said before a user speaks."""
    for message in messages:
        check_message(message)
    if messages and messages[-1].role is not Role.ASSISTANT:
        _refuse("What was said before must end with the model.", messages[-1].origin)
    _check_pairing(messages)


def check_message(message: Message) -> None:
    """Raise InvalidRequestError for the first fault of a message by itself."""
    if not message.parts:
        _refuse("A message needs at least one part.", message.origin)
    for index, part in enumerate(message.parts):
        check_part(message.role, part, _path(message, index))


def check_settings(request: CompletionRequest, within: str = "") -> None:
    """Raise InvalidRequestError for the first fault of a request besides its messages.

    `within` is what comes before its fields in their paths.
    """
    _check_tools(request.tools, within)
    _check_tool_choice(request, within)
    _check_sampling(request, within)
    if request.max_output_tokens is not None and request.max_output_tokens < 1:
        raise invalid(f"{within}max_output_tokens", "at least 1")
    schema = f"{within}output_format.schema_json"
    if request.output_format.kind is OutputKind.JSON_SCHEMA:
        if request.output_format.schema is None:
            raise missing(schema)
    elif request.output_format.schema is not None:
        _refuse("A schema goes only with the JSON Schema output format.", schema)


def _refuse(message: str, field: str) -> NoReturn:
    raise InvalidRequestError(message, field=field)


def check_part(role: Role, part: Part, field: str) -> None:
    """Raise InvalidRequestError for the first fault of a part, which the caller calls `field`."""
    speaker = _SPEAKERS[type(part)]
    if speaker is not None and role is not speaker:
        if isinstance(part, ImagePart | DocumentPart):
            raise media_misplaced(field)
        _refuse(f"'{field}' goes only into a message of the role {speaker.value}.", field)
    match part:
        case ImagePart(source):
            _check_image(source, field)
        case DocumentPart(source):
            _check_document(source, field)
        case ToolCallPart(id=call_id, name=name, arguments=arguments):
            if not call_id.strip():
                _refuse("A tool call needs an id.", f"{field}.id")
            if not name:
                _refuse("A tool call needs the name of its tool.", f"{field}.name")
            json_object(arguments, f"{field}.arguments_json")
        case ToolResultPart(content=content):
            for index, piece in enumerate(content):
                if isinstance(piece, ImagePart):
                    _check_image(piece.source, f"{field}.content[{index}].image")
        case TextPart():
            pass


def _check_image(source: InlineData | UrlSource, field: str) -> None:
    if isinstance(source, InlineData) and source.media_type not in _IMAGE_TYPES:
        raise bad_image(field, IMAGE_KINDS)
    _check_source(source, field)


def _check_document(source: InlineData | UrlSource, field: str) -> None:
    if isinstance(source, InlineData) and source.media_type not in _DOCUMENT_TYPES:
        raise bad_document(field, source.media_type)
    _check_source(source, field)


def _check_source(source: InlineData | UrlSource, field: str) -> None:
    match source:
        case InlineData(base64=data):
            if not data:
                raise no_data(field)
        case UrlSource(url=url):
            if not url.lower().startswith("https://"):
                raise bad_image(field, "Give an https address or data.")


def _check_messages(messages: tuple[Message, ...]) -> None:
    if not messages:
        raise invalid("messages", NOT_EMPTY)
    for message in messages:
        check_message(message)
    if messages[-1].role is not Role.USER:
        raise ends_with_assistant(messages[-1].origin)
    _check_pairing(messages)


def _check_pairing(messages: tuple[Message, ...]) -> None:
    """Every call is answered once, in the message after it; nothing else is answered.

    An id may come again in a later message: some clients count the calls of each answer anew.
    """
    unanswered: dict[str, tuple[str, str]] = {}
    for message in messages:
        for call_id, field in _results(message):
            if unanswered.pop(call_id, None) is None:
                raise unknown_call(call_id, message.origin, field)
        for call_id, (where, field) in unanswered.items():
            raise unanswered_call(call_id, where, field)
        for call_id, field in _calls(message):
            if call_id in unanswered:
                raise call_id_twice(call_id, field)
            unanswered[call_id] = message.origin, field


def _calls(message: Message) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(message.parts):
        if isinstance(part, ToolCallPart):
            yield part.id, _path(message, index)


def _results(message: Message) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(message.parts):
        if isinstance(part, ToolResultPart):
            yield part.call_id, _path(message, index)


def _check_tools(tools: tuple[Tool, ...], within: str) -> None:
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        field = f"{within}tools[{index}].name"
        if not _TOOL_NAME.fullmatch(tool.name):
            raise invalid(field, TOOL_NAME)
        if tool.name in seen:
            raise tool_twice(tool.name, field)
        seen.add(tool.name)


def _check_tool_choice(request: CompletionRequest, within: str) -> None:
    choice = request.tool_choice
    match choice.mode:
        case ToolMode.REQUIRED if not request.tools:
            raise without_tools(f"{within}tool_choice.mode")
        case ToolMode.NAMED:
            if not choice.name:
                raise missing(f"{within}tool_choice.name")
            check_on_offer(choice.name, request.tools, f"{within}tool_choice.name")
        case _:
            if choice.name:
                _refuse(
                    "A tool is named only where that tool is to be called.",
                    f"{within}tool_choice.name",
                )


def check_on_offer(name: str, tools: tuple[Tool, ...], field: str) -> None:
    """Raise InvalidRequestError for the name of a tool that is not on offer."""
    if not tools:
        raise without_tools(field)
    if all(tool.name != name for tool in tools):
        raise no_such_tool(name, field)


def _check_sampling(request: CompletionRequest, within: str) -> None:
    sampling = request.sampling
    _check_unit(sampling.temperature, f"{within}sampling.temperature")
    _check_unit(sampling.top_p, f"{within}sampling.top_p")
    if len(sampling.stop) > MAX_STOP:
        raise invalid(f"{within}sampling.stop", f"an array of at most {MAX_STOP}")
    for index, text in enumerate(sampling.stop):
        if not text:
            _refuse("A stop text must not be empty.", f"{within}sampling.stop[{index}]")


def _check_unit(value: float | None, field: str) -> None:
    if value is None or 0 <= value <= 1:
        return
    # Neither is true of what is no number.
    raise invalid(field, "at least 0" if value < 0 else "at most 1" if value > 1 else "a number")
