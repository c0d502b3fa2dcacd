"""What every request must keep to, whatever it is written in.

Pure functions over the neutral model; the first fault found is raised, named in the caller's
own words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NoReturn

from bridge.core.bounds import json_object
from bridge.core.errors import InvalidRequestError
from bridge.core.model import (
    CompletionRequest,
    DocumentPart,
    ImagePart,
    InlineData,
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
        _refuse("The answer must be allowed at least 1 token.", f"{within}max_output_tokens")
    schema = f"{within}output_format.schema_json"
    if request.output_format.kind is OutputKind.JSON_SCHEMA:
        if request.output_format.schema is None:
            _refuse("The output format needs a JSON Schema.", schema)
    elif request.output_format.schema is not None:
        _refuse("A schema goes only with the JSON Schema output format.", schema)


def _refuse(message: str, field: str) -> NoReturn:
    raise InvalidRequestError(message, field=field)


def check_part(role: Role, part: Part, field: str) -> None:
    """Raise InvalidRequestError for the first fault of a part, which the caller calls `field`."""
    speaker = _SPEAKERS[type(part)]
    if speaker is not None and role is not speaker:
        kind = _KINDS[type(part)]
        _refuse(f"A {kind} part goes only in a message whose role is {speaker.value}.", field)
    match part:
        case ImagePart(source):
            _check_source(source, _IMAGE_TYPES, field)
        case DocumentPart(source):
            _check_source(source, _DOCUMENT_TYPES, field)
        case ToolCallPart(id=call_id, name=name, arguments=arguments):
            if not call_id.strip():
                _refuse("A tool call needs an id.", f"{field}.id")
            if not name:
                _refuse("A tool call needs the name of its tool.", f"{field}.name")
            json_object(arguments, f"{field}.arguments_json")
        case ToolResultPart(content=content):
            for index, piece in enumerate(content):
                if isinstance(piece, ImagePart):
                    _check_source(piece.source, _IMAGE_TYPES, f"{field}.content[{index}].image")
        case TextPart():
            pass


def _check_source(source: InlineData | UrlSource, types: tuple[str, ...], field: str) -> None:
    match source:
        case InlineData(media_type=media_type, base64=data):
            if media_type not in types:
                _refuse(f"The media type must be one of {', '.join(types)}.", field)
            if not data:
                _refuse("There are no bytes.", field)
        case UrlSource(url=url):
            if not url.lower().startswith("https://"):
                _refuse("The address must begin with https://.", field)


def _check_messages(messages: tuple[Message, ...]) -> None:
    if not messages:
        _refuse("The conversation needs at least one message.", "messages")
    for message in messages:
        check_message(message)
    if messages[-1].role is not Role.USER:
        _refuse("The last message must be from the user.", messages[-1].origin)
    _check_pairing(messages)


def _check_pairing(messages: tuple[Message, ...]) -> None:
    """Every call is answered once, in the message after it; nothing else is answered.

    An id may come again in a later message: some clients count the calls of each answer anew.
    """
    open_calls: dict[str, str] = {}
    for message in messages:
        unanswered = dict(open_calls)
        for call_id, field in _results(message):
            if call_id not in open_calls:
                _refuse("The message before holds no tool call with this id.", field)
            if unanswered.pop(call_id, None) is None:
                _refuse("This tool call is answered twice.", field)
        for field in unanswered.values():
            _refuse("The next message must hold the result of this tool call.", field)
        open_calls = {}
        for call_id, field in _calls(message):
            if call_id in open_calls:
                _refuse("Another tool call has this id.", field)
            open_calls[call_id] = field


def _calls(message: Message) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(message.parts):
        if isinstance(part, ToolCallPart):
            yield part.id, _path(message, index)


def _results(message: Message) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(message.parts):
        if isinstance(part, ToolResultPart):
            yield part.call_id, _path(message, index)


_TOOL_NAME_RULE: Final = 'The name of a tool is 1 to 64 letters, digits, "_" and "-".'


def _check_tools(tools: tuple[Tool, ...], within: str) -> None:
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        field = f"{within}tools[{index}].name"
        if not _TOOL_NAME.fullmatch(tool.name):
            _refuse(_TOOL_NAME_RULE, field)
        if tool.name in seen:
            _refuse("Another tool has this name.", field)
        seen.add(tool.name)


def _check_tool_choice(request: CompletionRequest, within: str) -> None:
    choice = request.tool_choice
    match choice.mode:
        case ToolMode.REQUIRED if not request.tools:
            _refuse(
                "A tool cannot be required where none is on offer.", f"{within}tool_choice.mode"
            )
        case ToolMode.NAMED:
            if not choice.name:
                _refuse("The tool to call must be named.", f"{within}tool_choice.name")
            if choice.name not in {tool.name for tool in request.tools}:
                _refuse("No tool on offer has this name.", f"{within}tool_choice.name")
        case _:
            if choice.name:
                _refuse(
                    "A tool is named only where that tool is to be called.",
                    f"{within}tool_choice.name",
                )


def _check_sampling(request: CompletionRequest, within: str) -> None:
    sampling = request.sampling
    _check_unit(sampling.temperature, f"{within}sampling.temperature")
    _check_unit(sampling.top_p, f"{within}sampling.top_p")
    if len(sampling.stop) > MAX_STOP:
        _refuse(f"At most {MAX_STOP} stop texts.", f"{within}sampling.stop")
    for index, text in enumerate(sampling.stop):
        if not text:
            _refuse("A stop text must not be empty.", f"{within}sampling.stop[{index}]")


def _check_unit(value: float | None, field: str) -> None:
    # Written so that NaN is refused too.
    if value is not None and not 0 <= value <= 1:
        _refuse("Must be from 0 to 1.", field)
