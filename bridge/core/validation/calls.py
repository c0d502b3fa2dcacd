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
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.validation.strict_json import NotJsonError, TooNestedError, parse_strict

MALFORMED: Final = "_malformed_arguments"
"""The only argument of a call with malformed arguments: their text."""

_INDEX: Final = re.compile(r"\[\d+\]")


def with_valid_calls(request: CompletionRequest) -> CompletionRequest:
    """Make the arguments of every call the JSON text of an object; list the changes in `repaired`.

    Empty text means no arguments. Other text that is not an object becomes the argument
    `MALFORMED`. A call that was cut and has no result is left out: it had no effect. So are all
    calls of a turn after which the conversation continues without a result of any, unless the API
    marks cut calls: an answer can be cut after a complete call.
    """
    messages: list[Message] = []
    repaired: dict[str, None] = {}
    for index, message in enumerate(request.messages):
        if any(isinstance(part, ToolCallPart) for part in message.parts):
            after = request.messages[index + 1 : index + 2]
            answered = {call_id for each in after for call_id in _answered(each)}
            unsaid = bool(after) and not request.marks_cut_calls
            passed_over = unsaid and answered.isdisjoint(_ids(message))
            parts: list[Part] = []
            for number, part in enumerate(message.parts):
                valid: Part | None = part
                if isinstance(part, ToolCallPart):
                    valid = None if passed_over else _valid(part, answered)
                if valid is not None:
                    parts.append(valid)
                if isinstance(part, ToolCallPart) and _is_other(part, valid):
                    path = f"messages[{index}].parts[{number}].tool_call.arguments"
                    origin = part.origin or message.origin
                    place = Place(path, origin, ".tool_call.arguments")
                    repaired[_INDEX.sub("", request.field_names(place))] = None
            message = replace(message, parts=tuple(parts) or (TextPart(""),))
        messages.append(message)
    return replace(request, messages=tuple(messages), repaired=tuple(repaired))


def _ids(message: Message) -> Iterator[str]:
    return (part.id for part in message.parts if isinstance(part, ToolCallPart))


def _answered(message: Message) -> Iterator[str]:
    return (part.call_id for part in message.parts if isinstance(part, ToolResultPart))


def _is_other(call: ToolCallPart, valid: Part | None) -> bool:
    """Whether the model gets something else than was sent."""
    return valid is None or (valid != call and bool(call.arguments.strip()))


def _valid(call: ToolCallPart, answered: set[str]) -> ToolCallPart | None:
    """Return the call with valid arguments; None if it is left out."""
    if not call.arguments.strip():
        valid = replace(call, arguments="{}")
    elif _is_object(call.arguments):
        valid = call
    else:
        valid = replace(call, arguments=json.dumps({MALFORMED: call.arguments}), cut=True)
    return None if valid.cut and call.id not in answered else replace(valid, cut=call.cut)


def _is_object(text: str) -> bool:
    try:
        return isinstance(parse_strict(text, levels=BOUNDS.json_levels), dict)
    except (NotJsonError, TooNestedError):
        return False
