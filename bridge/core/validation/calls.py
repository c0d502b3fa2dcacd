"""Makes the tool calls of earlier answers acceptable to the model's API. Pure.

An answer may end in the middle of a call, and a model may write arguments that are not JSON.
Clients send such calls back unchanged, often with a result that reports the fault; if they were
refused, the conversation could never continue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from bridge.core.contract import (
    BOUNDS,
    CompletionRequest,
    Message,
    Part,
    Place,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.validation.strict_json import NotJsonError, TooNestedError, parse_strict

MALFORMED: Final = "_malformed_arguments"
"""The only argument of a call with malformed arguments: their text."""

FREE_TEXT: Final = "input"
"""The only argument of a call of a tool that takes one free text: that text."""

_INDEX: Final = re.compile(r"\[\d+\]")


def with_valid_calls(request: CompletionRequest) -> CompletionRequest:
    """Make the arguments of every call the JSON text of an object; list the changes in `repaired`.

    Empty text means no arguments. Other text that is not an object becomes the argument
    `MALFORMED`. A call that was cut had no effect: it is left out, together with its result. So
    are calls with malformed arguments and no result, and all calls of a turn after which the
    conversation continues without a result of any, unless the API marks cut calls: an answer can
    be cut after a complete call.
    """
    messages: list[Message] = []
    repaired: dict[str, None] = {}
    cut: set[str] = set()
    for index, message in enumerate(request.messages):
        message_cut = {p.id for p in message.parts if isinstance(p, ToolCallPart) and p.cut}
        parts: list[Part] = []
        passed_over = _is_passed_over(request, index)
        answered = {
            id for each in request.messages[index + 1 : index + 2] for id in _answered(each)
        }
        for number, part in enumerate(message.parts):
            valid: Part | None = part
            if isinstance(part, ToolResultPart) and part.call_id in cut:
                valid = None
            elif isinstance(part, ToolCallPart):
                valid = None if passed_over or part.cut else _valid(part, answered)
                if _is_other(part, valid):
                    path = f"messages[{index}].parts[{number}].tool_call.arguments"
                    origin = part.origin or message.origin
                    place = Place(path, origin, ".tool_call.arguments")
                    repaired[_INDEX.sub("", request.field_names(place))] = None
            if valid is not None:
                parts.append(valid)
        cut = message_cut
        if parts or not message.parts:
            messages.append(replace(message, parts=tuple(parts)))
    return replace(request, messages=tuple(messages), repaired=tuple(repaired))


def _is_passed_over(request: CompletionRequest, index: int) -> bool:
    """Whether the conversation continues without a result of any call of this message."""
    after = request.messages[index + 1 : index + 2]
    if request.marks_cut_calls or not after:
        return False
    answered = {call_id for each in after for call_id in _answered(each)}
    return answered.isdisjoint(_ids(request.messages[index]))


def _ids(message: Message) -> Iterator[str]:
    return (part.id for part in message.parts if isinstance(part, ToolCallPart))


def _answered(message: Message) -> Iterator[str]:
    return (part.call_id for part in message.parts if isinstance(part, ToolResultPart))


def _is_other(call: ToolCallPart, valid: Part | None) -> bool:
    """Whether the model gets something else than was sent."""
    if valid is None:
        return True
    return valid != call and bool(call.arguments.strip()) and not call.free_text


def _valid(call: ToolCallPart, answered: set[str]) -> ToolCallPart | None:
    """Return a whole call with valid arguments; None if it is left out."""
    if call.free_text:
        call = replace(call, arguments=json.dumps({FREE_TEXT: call.arguments}), free_text=False)
    if not call.arguments.strip():
        valid = replace(call, arguments="{}")
    elif _is_object(call.arguments):
        valid = call
    else:
        valid = replace(call, arguments=json.dumps({MALFORMED: call.arguments}))
        return valid if call.id in answered else None
    return valid


def _is_object(text: str) -> bool:
    try:
        return isinstance(parse_strict(text, levels=BOUNDS.json_levels), dict)
    except (NotJsonError, TooNestedError):
        return False
