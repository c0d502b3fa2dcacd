"""What every request must keep to, whatever it is written in.

Pure functions over the neutral model; the first fault found is raised, named in the caller's
own words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from bridge.core.errors import InvalidRequestError
from bridge.core.model import (
    CompletionRequest,
    DocumentPart,
    ImagePart,
    InlineData,
    JsonObject,
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


def proto_part(message: Message, index: int) -> str:
    """Name a part as the proto does: `messages[2].parts[0].image`."""
    return f"{message.origin}.parts[{index}].{_KINDS[type(message.parts[index])]}"


@dataclass(frozen=True, slots=True)
class FieldNames:
    """What the caller calls the things that are checked. The defaults are the proto's paths."""

    part: Callable[[Message, int], str] = proto_part
    messages: str = "messages"
    tool_name: str = "tools[{index}].name"
    tool_choice: str = "tool_choice.mode"
    tool_choice_name: str = "tool_choice.name"
    temperature: str = "sampling.temperature"
    top_p: str = "sampling.top_p"
    stop: str = "sampling.stop"
    max_output_tokens: str = "max_output_tokens"
    schema: str = "output_format.schema_json"


PROTO_NAMES: Final = FieldNames()


def check_request(request: CompletionRequest, names: FieldNames = PROTO_NAMES) -> None:
    """Raise InvalidRequestError for the first fault of a request."""
    _check_messages(request.messages, names)
    _check_tools(request.tools, names)
    _check_tool_choice(request, names)
    _check_sampling(request, names)
    if request.max_output_tokens is not None and request.max_output_tokens < 1:
        _refuse("The answer must be allowed at least 1 token.", names.max_output_tokens)
    if request.output_format.kind is OutputKind.JSON_SCHEMA:
        if request.output_format.schema is None:
            _refuse("The output format needs a JSON Schema.", names.schema)
    elif request.output_format.schema is not None:
        _refuse("A schema goes only with the JSON Schema output format.", names.schema)


def json_object(text: str, field: str) -> JsonObject:
    """Parse JSON text that must be an object."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse(f"{field} is not valid JSON.", field)
    if not isinstance(value, dict):
        _refuse(f"{field} must be the JSON text of an object.", field)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse(message: str, field: str) -> NoReturn:
    raise InvalidRequestError(message, field=field)


def _check_messages(messages: tuple[Message, ...], names: FieldNames) -> None:
    if not messages:
        _refuse("The conversation needs at least one message.", names.messages)
    for message in messages:
        if not message.parts:
            _refuse("A message needs at least one part.", message.origin)
        for index, part in enumerate(message.parts):
            _check_part(message.role, part, names.part(message, index))
    if messages[-1].role is not Role.USER:
        _refuse("The last message must be from the user.", messages[-1].origin)
    _check_pairing(messages, names)


def _check_part(role: Role, part: Part, field: str) -> None:
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
            if not _TOOL_NAME.fullmatch(name):
                _refuse(_TOOL_NAME_RULE, f"{field}.name")
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
            if not url.startswith("https://"):
                _refuse("The address must begin with https://.", field)


def _check_pairing(messages: tuple[Message, ...], names: FieldNames) -> None:
    """Every call is answered once, in the message after it; nothing else is answered."""
    open_calls: dict[str, str] = {}
    seen: set[str] = set()
    for message in messages:
        unanswered = dict(open_calls)
        for call_id, field in _results(message, names):
            if call_id not in open_calls:
                _refuse("The message before holds no tool call with this id.", field)
            if unanswered.pop(call_id, None) is None:
                _refuse("This tool call is answered twice.", field)
        for field in unanswered.values():
            _refuse("The next message must hold the result of this tool call.", field)
        open_calls = {}
        for call_id, field in _calls(message, names):
            if call_id in seen:
                _refuse("Another tool call has this id.", field)
            seen.add(call_id)
            open_calls[call_id] = field


def _calls(message: Message, names: FieldNames) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(message.parts):
        if isinstance(part, ToolCallPart):
            yield part.id, names.part(message, index)


def _results(message: Message, names: FieldNames) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(message.parts):
        if isinstance(part, ToolResultPart):
            yield part.call_id, names.part(message, index)


_TOOL_NAME_RULE: Final = 'The name of a tool is 1 to 64 letters, digits, "_" and "-".'


def _check_tools(tools: tuple[Tool, ...], names: FieldNames) -> None:
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        field = names.tool_name.format(index=index)
        if not _TOOL_NAME.fullmatch(tool.name):
            _refuse(_TOOL_NAME_RULE, field)
        if tool.name in seen:
            _refuse("Another tool has this name.", field)
        seen.add(tool.name)


def _check_tool_choice(request: CompletionRequest, names: FieldNames) -> None:
    choice = request.tool_choice
    match choice.mode:
        case ToolMode.REQUIRED if not request.tools:
            _refuse("A tool cannot be required where none is on offer.", names.tool_choice)
        case ToolMode.NAMED:
            if not choice.name:
                _refuse("The tool to call must be named.", names.tool_choice_name)
            if choice.name not in {tool.name for tool in request.tools}:
                _refuse("No tool on offer has this name.", names.tool_choice_name)
        case _:
            if choice.name:
                _refuse(
                    "A tool is named only where that tool is to be called.", names.tool_choice_name
                )


def _check_sampling(request: CompletionRequest, names: FieldNames) -> None:
    sampling = request.sampling
    _check_unit(sampling.temperature, names.temperature)
    _check_unit(sampling.top_p, names.top_p)
    if len(sampling.stop) > MAX_STOP:
        _refuse(f"At most {MAX_STOP} stop texts.", names.stop)
    for index, text in enumerate(sampling.stop):
        if not text.strip():
            _refuse("A stop text must not be blank.", f"{names.stop}[{index}]")


def _check_unit(value: float | None, field: str) -> None:
    # Written so that NaN is refused too.
    if value is not None and not 0 <= value <= 1:
        _refuse("Must be from 0 to 1.", field)
