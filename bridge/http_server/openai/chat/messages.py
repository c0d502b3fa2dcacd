"""The messages of a chat: system messages placed, turns merged, functions matched by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

from bridge.core.contract import (
    InvalidRequestError,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnsupportedError,
    shown,
)
from bridge.core.validation import missing
from bridge.http_server.openai.chat.wire import (
    AssistantMessage,
    ChatMessage,
    FunctionMessage,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from bridge.http_server.openai.shared.content import decode_content, decode_text
from bridge.http_server.wire import Turns


def decode_messages(messages: Sequence[ChatMessage]) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt, if there is one, and the turns."""
    turns = Turns("messages")
    functions = _FunctionCalls()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        content = f"{where}.content"
        match message:
            case SystemMessage():
                turns.add_system(where, decode_text(message.content, content))
            case UserMessage():
                turns.add(Role.USER, where, decode_content(message.content, content))
            case AssistantMessage():
                parts = _assistant_parts(message, where)
                turns.add(Role.ASSISTANT, where, parts)
                functions.made(parts)
            case ToolMessage(tool_call_id=call_id):
                functions.answered(call_id)
                turns.add(Role.USER, where, [_result(call_id, message, where)])
            case FunctionMessage():
                call_id = functions.answer(message, where)
                turns.add(Role.USER, where, [_result(call_id, message, where)])
            case _:
                assert_never(message)
    return turns.finish()


class _FunctionCalls:
    """The calls that wait for results: the deprecated form answers a function by its name alone."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        """Names by the ids of their calls."""

    def made(self, parts: Iterable[Part]) -> None:
        self._waiting |= {part.id: part.name for part in parts if isinstance(part, ToolCallPart)}

    def answered(self, call_id: str) -> None:
        self._waiting.pop(call_id, None)

    def answer(self, message: FunctionMessage, where: str) -> str:
        """Return the id of the first waiting call of this function, which no longer waits."""
        name = message.name
        call_id = next((id for id, called in self._waiting.items() if called == name), None)
        if call_id is None:
            raise InvalidRequestError(
                f"'{where}' answers the function {shown(name)}, which the preceding "
                "assistant message did not call.",
                field=f"{where}.name",
            )
        del self._waiting[call_id]
        return call_id


def _assistant_parts(message: AssistantMessage, where: str) -> list[Part]:
    if message.audio is not None:
        raise UnsupportedError(
            f"'{where}.audio': this server stores no audio. Send a transcript as content.",
            field=f"{where}.audio",
        )
    parts: list[Part] = [*decode_text(message.content, f"{where}.content")]
    if message.refusal and not parts:
        parts.append(TextPart(message.refusal))
    for index, call in enumerate(message.tool_calls or ()):
        place = f"{where}.tool_calls[{index}]"
        if call.type not in (None, "function"):
            raise UnsupportedError(
                f"'{place}.type': this server only supports function tools.", field=f"{place}.type"
            )
        place = f"{place}.function"
        function = call.function
        if function is None:
            raise missing(place)
        parts.append(ToolCallPart(call.id, function.name, function.arguments, origin=place))
    if message.function_call is not None:
        function = message.function_call
        call_id = _function_call_id(where)
        place = f"{where}.function_call"
        parts.append(ToolCallPart(call_id, function.name, function.arguments, origin=place))
    return parts


def _result(call_id: str, message: ToolMessage | FunctionMessage, where: str) -> ToolResultPart:
    content = decode_content(message.content, f"{where}.content")
    return ToolResultPart(call_id, tuple(content), origin=where)


def _function_call_id(where: str) -> str:
    # The deprecated form has no ids; the place in the history yields a stable one.
    return "function_call_" + "".join(filter(str.isdigit, where))


def call_field(where: str, rest: str) -> str:
    """Name a field of a call or of its result, which is written in `where`."""
    message = where.partition(".")[0]
    match rest:
        case ".tool_result":
            return f"{message}.tool_call_id"
        case ".tool_call.name" | ".tool_call.arguments":
            return f"{where}{rest.removeprefix('.tool_call')}"
        case _ if where.endswith(".function"):
            return f"{where.removesuffix('.function')}.id"
        case _:
            return where
