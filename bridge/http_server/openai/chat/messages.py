"""The messages of a chat: instructions hoisted, turns merged, calls matched with results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from bridge.core.contract import (
    InvalidRequestError,
    Message,
    Part,
    Role,
    TextPart,
    ToolResultPart,
    UnsupportedError,
)
from bridge.core.validation import missing, unknown_call
from bridge.http_server.openai.chat.wire import ChatMessage, FunctionCall
from bridge.http_server.openai.shared.content import decode_content, decode_text, note_extras
from bridge.http_server.openai.shared.parameters import Ignored
from bridge.http_server.openai.shared.turns import Turns, decode_call, decode_result

_REASONING: Final = frozenset({"reasoning_content", "reasoning", "reasoning_details"})
"""What clients keep of an answer's thinking and send back. An earlier turn needs none."""


def decode_messages(
    messages: Sequence[ChatMessage], ignored: Ignored
) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt, if there is one, and the turns."""
    system: list[TextPart] = []
    turns = Turns("messages")
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
                turns.add(Role.ASSISTANT, where, _assistant_parts(message, where, ignored))
                _expect_results(turns, message, where)
            case "tool":
                turns.add(Role.USER, where, [_tool_result(message, where, turns, ignored)])
            case "function":
                turns.add(Role.USER, where, [_function_result(message, where, turns, ignored)])
            case _:
                assert_never(message.role)
    instructions = "\n".join(part.text for part in system)
    return instructions if instructions.strip() else None, turns.finish()


def _expect_results(turns: Turns, message: ChatMessage, where: str) -> None:
    for index, call in enumerate(message.tool_calls or ()):
        place = f"{where}.tool_calls[{index}].id"
        missing_id = f"{where}.tool_call_id"
        turns.expect(call.id, _call_name(call.function), where, place, missing_id)
    if message.function_call is not None:
        call_id = _function_call_id(where)
        place = f"{where}.function_call"
        turns.expect(call_id, message.function_call.name, where, place, place)


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
        parts.append(decode_call(call.id, function.name, function.arguments, f"{place}.function"))
    if message.function_call is not None:
        function = message.function_call
        call_id = _function_call_id(where)
        place = f"{where}.function_call"
        parts.append(decode_call(call_id, function.name, function.arguments, place))
    return parts


def _tool_result(
    message: ChatMessage, where: str, turns: Turns, ignored: Ignored
) -> ToolResultPart:
    call_id = message.tool_call_id
    if call_id is None:
        raise missing(f"{where}.tool_call_id")
    if not turns.answer(call_id):
        raise unknown_call(call_id, where, f"{where}.tool_call_id")
    return _result(call_id, message, where, ignored)


def _function_result(
    message: ChatMessage, where: str, turns: Turns, ignored: Ignored
) -> ToolResultPart:
    call_id = turns.answer_function(message.name)
    if call_id is None:
        raise InvalidRequestError(
            f"'{where}' answers the function '{message.name}', which the assistant's turn before "
            "it did not call.",
            field=f"{where}.name",
        )
    return _result(call_id, message, where, ignored)


def _result(call_id: str, message: ChatMessage, where: str, ignored: Ignored) -> ToolResultPart:
    parts = decode_content(message.content, f"{where}.content", ignored)
    return decode_result(call_id, parts, f"{where}.content")


def _function_call_id(where: str) -> str:
    # The deprecated form has no ids; its place in the history makes a stable one.
    return "function_call_" + "".join(filter(str.isdigit, where))


def _call_name(function: FunctionCall | None) -> str:
    return "" if function is None else function.name


def _note_ignored(message: ChatMessage, where: str, ignored: Ignored) -> None:
    if message.name and message.role not in {"tool", "function"}:
        ignored.add("messages.name", f"{where}.name")
    hints = _REASONING if message.role == "assistant" else frozenset()
    note_extras(message, "messages", where, ignored, hints=hints)
