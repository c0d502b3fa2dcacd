"""The rules of a request, whichever API it came by. Pure."""

from __future__ import annotations

from typing import Final

from bridge.core.contract import (
    BOUNDS,
    Bounds,
    CompletionRequest,
    DocumentPart,
    Faults,
    ImagePart,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.validation.calls import with_sound_calls
from bridge.core.validation.settings import check_settings
from bridge.core.validation.sizes import check_sizes
from bridge.core.validation.turns import check_history, check_turns

_MANY_MESSAGES: Final = 200
_MANY_TOOLS: Final = 50
_LIGHT_ARGUMENTS: Final = 100_000


def is_large(request: CompletionRequest) -> bool:
    """Whether its rules take so long to check that everybody else's answers would wait for it."""
    if len(request.messages) > _MANY_MESSAGES or len(request.tools) > _MANY_TOOLS:
        return True
    if sum(len(message.parts) for message in request.messages) > 2 * _MANY_MESSAGES:
        return True
    return any(_is_heavy(part) for message in request.messages for part in message.parts)


def _is_heavy(part: Part | TextPart | ImagePart) -> bool:
    match part:
        case ImagePart() | DocumentPart():
            return True
        case ToolCallPart():
            return len(part.arguments) > _LIGHT_ARGUMENTS
        case ToolResultPart():
            return len(part.content) > _MANY_MESSAGES or any(map(_is_heavy, part.content))
        case TextPart():
            return False


def validate(request: CompletionRequest, bounds: Bounds = BOUNDS) -> CompletionRequest:
    """Raise for the rules that a request breaks; each field is named by the caller's own name.

    Gives the request with calls as the model can be told of them. Raises InvalidRequestError, or
    TooLargeError. What needs the API's word on schemas is not among the rules: see `fault_of`.
    """
    # First, so that what follows reads no more than the bounds let through.
    check_sizes(request, bounds)
    request = with_sound_calls(request)
    faults = Faults()
    with faults:
        check_turns(request.messages, request.field_names)
    with faults:
        check_settings(request)
    faults.raise_any()
    return request


def validate_opening(request: CompletionRequest, bounds: Bounds = BOUNDS) -> None:
    """Do the same for a conversation in which the user is yet to speak: calls may wait."""
    check_sizes(request, bounds)
    faults = Faults()
    with faults:
        check_history(with_sound_calls(request).messages, request.field_names)
    with faults:
        check_settings(request)
    faults.raise_any()
