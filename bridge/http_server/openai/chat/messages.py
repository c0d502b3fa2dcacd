"""The messages of a chat: instructions hoisted, turns merged, functions found by their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from bridge.core.contract import (
    InvalidRequestError,
    Message,
    Part,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UnsupportedError,
)
from bridge.core.validation import missing
from bridge.http_server.openai.chat.wire import ChatMessage
from bridge.http_server.openai.shared.content import decode_content, decode_text, note_extras
from bridge.http_server.openai.shared.parameters import Ignored
from bridge.http_server.openai.shared.turns import Turns, decode_result

_REASONING: Final = frozenset({"reasoning_content", "reasoning", "reasoning_details"})
"""What clients keep of an answer's thinking and send back. An earlier turn needs none."""


def decode_messages(
    messages: Sequence[ChatMessage], ignored: Ignored
) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt, if there is one, and the turns."""
    system: list[TextPart] = []
    turns = Turns("messages")
    functions = _FunctionCalls()
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        _note_ignored(message, where, ignored)
        if message.role != "assistant" and "content" not in message.model_fields_set:
            raise missing(f"{where}.content")
        match message.role:
            case "system" | "developer":
                system += decode_text(message.content, f"{where}.content", ignored)
            case "user":
                turns.add(Role.USER, where, _user_parts(message, where, ignored))
            case "assistant":
                parts = _assistant_parts(message, where, ignored)
                turns.add(Role.ASSISTANT, where, parts)
                functions.made(parts)
            case "tool":
                turns.add(Role.USER, where, [_tool_result(message, where, functions, ignored)])
            case "function":
                turns.add(Role.USER, where, [_function_result(message, where, functions, ignored)])
            case _:
                assert_never(message.role)
    instructions = "\n".join(part.text for part in system)
    return instructions if instructions.strip() else None, turns.finish()


class _FunctionCalls:
    """Which calls wait for results: the deprecated form answers a function by its name alone."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        """Names by the ids of their calls."""

    def made(self, parts: Iterable[Part]) -> None:
        self._waiting |= {part.id: part.name for part in parts if isinstance(part, ToolCallPart)}

    def answered(self, call_id: str) -> None:
        self._waiting.pop(call_id, None)

    def answer(self, name: str | None) -> str | None:
        """Take the first that waits for a function of this name; its id."""
        call_id = next((id for id, called in self._waiting.items() if called == name), None)
        if call_id is not None:
            del self._waiting[call_id]
        return call_id


def _user_parts(message: ChatMessage, where: str, ignored: Ignored) -> Iterable[Part]:
    return decode_content(message.content, f"{where}.content", ignored)


def _assistant_parts(message: ChatMessage, where: str, ignored: Ignored) -> list[Part]:
    if message.audio is not None:
        raise UnsupportedError(
            f"'{where}.audio': this server keeps no audio. Send a transcript as content.",
            field=f"{where}.audio",
        )
    parts: list[Part] = [*decode_text(message.content, f"{where}.content", ignored)]
    if message.refusal and not parts:
        parts.append(TextPart(message.refusal))
    for index, call in enumerate(message.tool_calls or ()):
        place = f"{where}.tool_calls[{index}]"
        if call.type not in (None, "function"):
            raise UnsupportedError(
                f"'{place}.type': this server knows function tools only.", field=f"{place}.type"
            )
        if call.function is None:
            raise missing(f"{place}.function")
        note_extras(call, "messages.tool_calls", place, ignored)
        function = call.function
        place = f"{place}.function"
        parts.append(ToolCallPart(call.id, function.name, function.arguments, origin=place))
    if message.function_call is not None:
        function = message.function_call
        call_id = _function_call_id(where)
        place = f"{where}.function_call"
        parts.append(ToolCallPart(call_id, function.name, function.arguments, origin=place))
    return parts


def _tool_result(
    message: ChatMessage, where: str, functions: _FunctionCalls, ignored: Ignored
) -> ToolResultPart:
    call_id = message.tool_call_id
    if call_id is None:
        raise missing(f"{where}.tool_call_id")
    functions.answered(call_id)
    return _result(call_id, message, where, ignored)


def _function_result(
    message: ChatMessage, where: str, functions: _FunctionCalls, ignored: Ignored
) -> ToolResultPart:
    call_id = functions.answer(message.name)
    if call_id is None:
        raise InvalidRequestError(
            f"'{where}' answers the function '{message.name}', which the assistant's turn before "
            "it did not call.",
            field=f"{where}.name",
        )
    return _result(call_id, message, where, ignored)


def _result(call_id: str, message: ChatMessage, where: str, ignored: Ignored) -> ToolResultPart:
    content = f"{where}.content"
    return decode_result(call_id, decode_content(message.content, content, ignored), where, content)


def _function_call_id(where: str) -> str:
    # The deprecated form has no ids; its place in the history makes a stable one.
    return "function_call_" + "".join(filter(str.isdigit, where))


def call_field(where: str, rest: str) -> str:
    """Name what belongs to a call or to its result, which was written in `where`."""
    message = where.partition(".")[0]
    match rest:
        case ".tool_result" | ".tool_call.result" if not where.endswith(".function_call"):
            return f"{message}.tool_call_id"
        case ".tool_call.name" | ".tool_call.arguments":
            return f"{where}{rest.removeprefix('.tool_call')}"
        case _ if where.endswith(".function"):
            return f"{where.removesuffix('.function')}.id"
        case _:
            return where


def _note_ignored(message: ChatMessage, where: str, ignored: Ignored) -> None:
    if message.name and message.role not in {"tool", "function"}:
        ignored.add("messages.name", f"{where}.name")
    hints = _REASONING if message.role == "assistant" else frozenset()
    note_extras(message, "messages", where, ignored, hints=hints)
