"""The items of a Responses request, as turns for the model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias, assert_never

from bridge.core.contract import (
    DocumentPart,
    ImagePart,
    InvalidRequestError,
    Message,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnsupportedError,
    UrlSource,
)
from bridge.core.validation import call_id_twice, media_misplaced, missing
from bridge.http_server.openai.responses.compaction.summaries import SUMMARISE, summary_of
from bridge.http_server.openai.responses.tools import SEARCH, flat_name
from bridge.http_server.openai.responses.wire_items import (
    AdditionalToolsItem,
    CompactionItem,
    CompactionTriggerItem,
    ConfigurationItem,
    CustomCallItem,
    CustomOutputItem,
    FunctionCallItem,
    FunctionOutputItem,
    HostedItem,
    InputFile,
    InputImage,
    InputItem,
    InputText,
    ItemPart,
    ItemReference,
    MessageItem,
    OtherItem,
    OutputText,
    ReasoningItem,
    SearchCallItem,
    SearchOutputItem,
)
from bridge.http_server.openai.responses.wire_tools import NamespaceTool, ResponseTool
from bridge.http_server.openai.shared.content import (
    Decoded,
    decode_document,
    decode_image,
    decode_parts,
    refuse_audio,
    refuse_file_id,
)
from bridge.http_server.openai.shared.wire_content import (
    ContentPartInputAudio,
    ContentPartRefusal,
    ContentPartText,
)
from bridge.http_server.wire import Ignored, Turns

PREVIOUS: Final = "previous_response_id"
PASTS: Final = frozenset({PREVIOUS, "conversation"})
"""Where the items are that a request builds on: the parameters that name it."""

Content: TypeAlias = str | Sequence[ItemPart] | None

_TWICE: Final = (
    "Use a unique id for each call, and omit items that the conversation so far already includes."
)


class Items:
    """Collects items into the turns of a conversation and its system prompt."""

    def __init__(self, instructions: str | None, ignored: Ignored) -> None:
        """Items without effect are added to `ignored`."""
        self._ignored = ignored
        self._turns = Turns("input", instructions)
        self._past_calls: set[str] = set()
        """Calls of the past that have no output yet."""

    def add(self, item: InputItem, where: str) -> None:
        """Add an item; `where` names it in errors."""
        match item:
            case MessageItem():
                self._message(item, where)
            case FunctionCallItem() | CustomCallItem() | SearchCallItem():
                self._call(_call(item, where), where)
            case FunctionOutputItem() | CustomOutputItem():
                self._output(
                    item.call_id, decode_parts(item.output, f"{where}.output", _part), where
                )
            case SearchOutputItem():
                found = ", ".join(_names(item.tools)) or "none"
                self._output(_search_id(item, where), [TextPart(f"Tools found: {found}")], where)
            case ReasoningItem():
                # An earlier turn does not need it, and only its own server can decrypt it.
                if item.encrypted_content:
                    place = f"{where}.encrypted_content"
                    self._ignored.add("input.encrypted_content", place)
            case AdditionalToolsItem() | ConfigurationItem():
                pass  # They say nothing: tools.py and decode.py read them.
            case CompactionItem() | CompactionTriggerItem():
                self._compaction(item, where)
            case HostedItem(type=kind):
                self._ignored.add(f"input.{kind}", f"{where}.type")
            case ItemReference():
                raise AssertionError("references are resolved before")
            case OtherItem():
                raise UnsupportedError(
                    f"'{where}.type' is '{item.type}', which this server does not support. Use "
                    "messages, calls of functions and custom tools, their outputs, reasoning and "
                    "item references.",
                    field=f"{where}.type",
                )
            case _:
                assert_never(item)

    def finish(self) -> tuple[str | None, tuple[Message, ...]]:
        """Return the system prompt, if there is one, and the turns."""
        return self._turns.finish()

    def _message(self, item: MessageItem, where: str) -> None:
        if item.role != "assistant" and item.content is None:
            raise missing(f"{where}.content")
        place = f"{where}.content"
        match item.role:
            case "user":
                self._turns.add(Role.USER, where, decode_parts(item.content, place, _part))
            case "assistant":
                self._turns.add(Role.ASSISTANT, where, _texts(item.content, place))
            case "system" | "developer":
                self._turns.add_system(where, _texts(item.content, place))
            case _:
                assert_never(item.role)

    def _compaction(self, item: CompactionItem | CompactionTriggerItem, where: str) -> None:
        if isinstance(item, CompactionItem):
            said = summary_of(item.encrypted_content, f"{where}.encrypted_content")
            self._turns.add(Role.USER, where, [TextPart(said)])
        elif where not in PASTS:
            # One of the past, whose answer was cut, says nothing any more.
            self._turns.add(Role.USER, where, [TextPart(SUMMARISE)])

    def _call(self, call: ToolCallPart, where: str) -> None:
        if where in PASTS:
            self._past_calls.add(call.id)
        elif call.id in self._past_calls:
            raise call_id_twice(call.id, f"{where}.call_id", _TWICE)
        self._turns.add(Role.ASSISTANT, where, [call])

    def _output(self, call_id: str, content: Sequence[_Part], where: str) -> None:
        self._past_calls.discard(call_id)
        result = ToolResultPart(call_id, tuple(content), origin=where)
        self._turns.add(Role.USER, where, [result])


_Part: TypeAlias = TextPart | ImagePart | DocumentPart


def _call(item: FunctionCallItem | CustomCallItem | SearchCallItem, where: str) -> ToolCallPart:
    cut = item.status == "incomplete"
    match item:
        case FunctionCallItem():
            name = flat_name(item.name, item.namespace)
            return ToolCallPart(item.call_id, name, item.arguments, cut, origin=where)
        case CustomCallItem():
            name = flat_name(item.name, item.namespace)
            return ToolCallPart(item.call_id, name, item.input, cut, free_text=True, origin=where)
        case SearchCallItem(arguments=arguments):
            text = arguments if isinstance(arguments, str) else json.dumps(arguments)
            return ToolCallPart(_search_id(item, where), SEARCH, text, cut, origin=where)


def _search_id(item: SearchCallItem | SearchOutputItem, where: str) -> str:
    if item.call_id is None:
        raise missing(f"{where}.call_id")
    return item.call_id


def _names(tools: Sequence[ResponseTool]) -> Iterator[str]:
    for tool in tools:
        if isinstance(tool, NamespaceTool):
            yield from (flat_name(inner.name, tool.name) for inner in tool.tools)
        else:
            yield getattr(tool, "name", tool.type or "")


def call_field(where: str, rest: str) -> str:
    """Name a field of a call or of its output, which is written in `where`."""
    match rest:
        case ".tool_call.result" if where in PASTS:
            return "input"
        case ".tool_call.arguments" if where in PASTS:
            return where
        case ".tool_call.name" | ".tool_call.arguments":
            return f"{where}{rest.removeprefix('.tool_call')}"
        case _:
            return f"{where}.call_id"


def _texts(content: Content, where: str) -> list[TextPart]:
    texts = []
    for part in decode_parts(content, where, _part):
        if not isinstance(part, TextPart):
            raise media_misplaced(where)
        texts.append(part)
    return texts


def _part(part: ItemPart, where: str) -> Decoded:
    match part:
        case InputText() | OutputText() | ContentPartText():
            return TextPart(part.text)
        case ContentPartRefusal():
            return TextPart(part.refusal)
        case InputImage():
            refuse_file_id(part.file_id, where, "image_url")
            if part.image_url is None:
                raise missing(f"{where}.image_url")
            return decode_image(part.image_url, f"{where}.image_url")
        case InputFile():
            return _file(part, where)
        case ContentPartInputAudio():
            refuse_audio(where)
        case _:
            assert_never(part)


def _file(part: InputFile, where: str) -> DocumentPart:
    refuse_file_id(part.file_id, where, "file_data")
    if part.file_data is not None:
        return decode_document(part.file_data, part.filename, f"{where}.file_data")
    if part.file_url is None:
        raise missing(f"{where}.file_data")
    if not part.file_url.lower().startswith("https://"):
        raise InvalidRequestError(
            f"'{where}.file_url' must be an https URL. Send other files as file_data.",
            field=f"{where}.file_url",
        )
    return DocumentPart(
        UrlSource(part.file_url), title=part.filename or None, origin=f"{where}.file_url"
    )
