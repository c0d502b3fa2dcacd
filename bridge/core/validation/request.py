"""The validation of a request, from any API. Pure."""

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
    SearchResultPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from bridge.core.validation.calls import with_valid_calls
from bridge.core.validation.settings import check_settings
from bridge.core.validation.sizes import check_sizes
from bridge.core.validation.turns import check_history, check_turns

_MANY_MESSAGES: Final = 200
_MANY_TOOLS: Final = 50
_LIGHT_CHARACTERS: Final = 100_000


def is_large(request: CompletionRequest) -> bool:
    """Whether its validation or comparison takes so long that other answers would wait."""
    if len(request.messages) > _MANY_MESSAGES or len(request.tools) > _MANY_TOOLS:
        return True
    if sum(len(message.parts) for message in request.messages) > 2 * _MANY_MESSAGES:
        return True
    return any(_is_heavy(part) for message in request.messages for part in message.parts)


def _is_heavy(part: Part | TextPart | ImagePart) -> bool:
    match part:
        case ImagePart() | DocumentPart() | SearchResultPart():
            return True
        case ToolCallPart():
            return len(part.arguments) > _LIGHT_CHARACTERS
        case ThinkingPart():
            return len(part.text) + len(part.encrypted) > _LIGHT_CHARACTERS
        case ToolResultPart():
            return len(part.content) > _MANY_MESSAGES or any(map(_is_heavy, part.content))
        case TextPart():
            return len(part.text) > _LIGHT_CHARACTERS


def validate(request: CompletionRequest, bounds: Bounds = BOUNDS) -> CompletionRequest:
    """Raise for the rules that a request breaks; each field is named as in the caller's API.

    Returns the request with calls that the model's API accepts. Raises InvalidRequestError or
    TooLargeError. Schemas are checked separately: see `fault_of`.
    """
    # First, so that the other checks read no more than the bounds allow.
    check_sizes(request, bounds)
    request = with_valid_calls(request)
    faults = Faults()
    with faults:
        check_turns(request.messages, request.field_names)
    with faults:
        check_settings(request)
    faults.raise_any()
    return request


def validate_opening(request: CompletionRequest, bounds: Bounds = BOUNDS) -> None:
    """Validate a conversation before the user's next message: calls may still wait for results."""
    check_sizes(request, bounds)
    faults = Faults()
    with faults:
        check_history(with_valid_calls(request).messages, request.field_names)
    with faults:
        check_settings(request)
    faults.raise_any()
