"""The messages of a chat: instructions hoisted, turns merged, calls matched with results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, assert_never

from bridge.core.bounds import json_object
from bridge.core.errors import InvalidRequestError, UnsupportedError
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
from bridge.http_server.decode.content import decode_content, decode_text, note_extras
from bridge.http_server.decode.parameters import Ignored
from bridge.http_server.decode.problems import missing
from bridge.http_server.wire.chat import ChatMessage, FunctionCall

_REASONING: Final = frozenset({"reasoning_content", "reasoning", "reasoning_details"})
"""What clients keep of an answer's thinking and send back. An earlier turn needs none."""


def decode_messages(
    messages: Sequence[ChatMessage], ignored: Ignored
) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt, if there is one, and the turns."""
    system: list[TextPart] = []
    turns = _Turns()
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
                turns.expect(message, where)
            case "tool":
                turns.add(Role.USER, where, [_tool_result(message, where, turns, ignored)])
            case "function":
                turns.add(Role.USER, where, [_function_result(message, where, turns, ignored)])
            case _:
                assert_never(message.role)
    instructions = "\n".join(part.text for part in system)
    return instructions if instructions.strip() else None, turns.finish()


class _Turns:
    """The turns so far, and the calls of the last one that have no result yet."""

    def __init__(self) -> None:
        self._turns: list[tuple[Role, str, list[Part]]] = []
        self._unanswered: dict[str, tuple[str, str]] = {}
        """By the id of the call: its name, and where it was made."""

    def add(self, role: Role, where: str, parts: Iterable[Part]) -> None:
        """Add a message: to the turn of the one before if that has the same role."""
        if self._turns and self._turns[-1][0] is role:
            self._turns[-1][2].extend(parts)
            return
        if role is Role.ASSISTANT:
            self._settle()
        self._turns.append((role, where, list(parts)))

    def expect(self, message: ChatMessage, where: str) -> None:
        """Note the calls of an assistant message: results must follow."""
        calls = [(call.id, _call_name(call.function)) for call in message.tool_calls or ()]
        if message.function_call is not None:
            calls.append((_function_call_id(where), message.function_call.name))
        for number, (call_id, name) in enumerate(calls):
            if call_id in self._unanswered:
                raise InvalidRequestError(
                    f"The tool call id '{call_id}' is used twice in one turn.",
                    field=f"{where}.tool_calls[{number}].id",
                )
            self._unanswered[call_id] = (name, where)

    def answer(self, call_id: str | None) -> bool:
        """Take a result for a call; says whether there was such a call."""
        return call_id is not None and self._unanswered.pop(call_id, None) is not None

    def answer_function(self, name: str | None) -> str | None:
        """Take a result for a function of this name, and return the id of the call."""
        for call_id, (called, _) in self._unanswered.items():
            if called == name:
                del self._unanswered[call_id]
                return call_id
        return None

    def finish(self) -> tuple[Message, ...]:
        """Return the turns; raises if no answer can follow them."""
        self._settle()
        if not self._turns:
            raise InvalidRequestError(
                "'messages' holds instructions only. Add a message with the role user.",
                field="messages",
            )
        role, where, _ = self._turns[-1]
        if role is Role.ASSISTANT:
            raise InvalidRequestError(
                "The last message is the assistant's, and Claude does not continue it. "
                "End with a message of the role user or tool.",
                field=where,
            )
        return tuple(_message(*turn) for turn in self._turns)

    def _settle(self) -> None:
        for call_id, (_, where) in self._unanswered.items():
            raise InvalidRequestError(
                f"The tool call '{call_id}' in '{where}' has no result. Each call must be "
                "followed by a message of the role tool with its tool_call_id.",
                field=f"{where}.tool_call_id",
            )


def _message(role: Role, where: str, parts: list[Part]) -> Message:
    if role is Role.USER and not parts:
        parts = [TextPart("")]
    return Message(role, tuple(parts), origin=where)


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
        parts.append(_call(call.id, call.function, f"{place}.function"))
    if message.function_call is not None:
        place = f"{where}.function_call"
        parts.append(_call(_function_call_id(where), message.function_call, place))
    return parts


def _call(call_id: str, function: FunctionCall, where: str) -> ToolCallPart:
    # Some clients write no arguments at all for a function without parameters.
    arguments = function.arguments.strip() or "{}"
    json_object(arguments, f"{where}.arguments")
    return ToolCallPart(call_id, function.name, arguments)


def _tool_result(
    message: ChatMessage, where: str, turns: _Turns, ignored: Ignored
) -> ToolResultPart:
    call_id = message.tool_call_id
    if call_id is None:
        raise missing(f"{where}.tool_call_id")
    if not turns.answer(call_id):
        raise InvalidRequestError(
            f"'{where}' answers the tool call '{call_id}', which the assistant's turn before it "
            "did not make, or which has a result already.",
            field=f"{where}.tool_call_id",
        )
    return _result(call_id, message, where, ignored)


def _function_result(
    message: ChatMessage, where: str, turns: _Turns, ignored: Ignored
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
    content: list[TextPart | ImagePart] = []
    for part in decode_content(message.content, f"{where}.content", ignored):
        if isinstance(part, DocumentPart):
            raise InvalidRequestError(
                f"'{where}.content': a tool's result may hold text and pictures only.",
                field=f"{where}.content",
            )
        content.append(part)
    return ToolResultPart(call_id, tuple(content))


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
