"""The error messages of invalid requests, the same for every API.

Callers pass the field by the name that it has in the client's API (`tools[0].function.name`).
"""

from __future__ import annotations

from typing import Final

from bridge.core.contract import InvalidRequestError, UnsupportedError, shown

TOOL_NAME: Final = '1 to 64 letters, digits, "_" and "-"'
NOT_EMPTY: Final = "a non-empty array"


def missing(field: str, remedy: str = "") -> InvalidRequestError:
    """A required field is missing."""
    return InvalidRequestError(
        f"Missing required parameter: '{field}'.{remedy and f' {remedy}'}",
        field=field,
        reason="MISSING_REQUIRED_PARAMETER",
    )


def invalid(field: str, expected: str) -> InvalidRequestError:
    """A value is not `expected`."""
    return InvalidRequestError(f"Invalid value for '{field}': expected {expected}.", field=field)


def without_effect(field: str, why: str = "has no effect on this server") -> UnsupportedError:
    """A parameter would be ignored, in a strict request."""
    return UnsupportedError(
        f"'{field}' {why}, and the request is strict. Remove it, or turn off strict mode.",
        field=field,
        reason="UNSUPPORTED_PARAMETER",
    )


# The turns of a conversation


def empty_last_message(where: str) -> InvalidRequestError:
    """The last message, in `where`, is empty."""
    return InvalidRequestError(
        f"'{where}', the last message, must be from the user and must not be empty.", field=where
    )


def unanswered_call(call_id: str, where: str, field: str) -> InvalidRequestError:
    """A call in `where` has no result; the error is about `field`."""
    return InvalidRequestError(
        f"The tool call {shown(call_id)} in '{where}' has no result. The results of all calls of "
        "a turn must directly follow it, each with the id of its call.",
        field=field,
    )


def unknown_call(call_id: str, where: str, field: str) -> InvalidRequestError:
    """A result in `where` matches no waiting call; the error is about `field`."""
    return InvalidRequestError(
        f"'{where}' answers the tool call {shown(call_id)}, which the preceding assistant turn "
        "did not make, or which already has a result.",
        field=field,
    )


UNIQUE_IDS: Final = "Give each call a unique id."


def call_id_twice(call_id: str, field: str, remedy: str = UNIQUE_IDS) -> InvalidRequestError:
    """Two calls of one turn have the same id."""
    return InvalidRequestError(
        f"The tool call id {shown(call_id)} is used twice in one turn. {remedy}", field=field
    )


# The content of messages


def media_misplaced(field: str) -> InvalidRequestError:
    """An image or a file is in a message that is not the user's."""
    return InvalidRequestError(
        f"'{field}' is for text. Put images and files into a user message.", field=field
    )


def bad_result(field: str) -> InvalidRequestError:
    """A tool result has content that is not allowed."""
    return InvalidRequestError(
        f"'{field}': a tool result may contain text, images and documents only.", field=field
    )


def failed_without_reason(field: str) -> InvalidRequestError:
    """The result of a failed call is not text, or is empty."""
    return InvalidRequestError(
        f"'{field}': the result of a failed tool call must be text that describes the error.",
        field=field,
    )


def bad_image(field: str, remedy: str) -> InvalidRequestError:
    """An image cannot be used."""
    return InvalidRequestError(
        f"'{field}' is not a usable image. {remedy}",
        field=field,
        reason="INVALID_IMAGE_URL",
    )


IMAGE_KINDS: Final = "Claude reads PNG, JPEG, GIF and WebP."


def unusable_image(fault: str, where: str) -> InvalidRequestError:
    """The image data in `where` have a fault: see `image_fault`."""
    return InvalidRequestError(
        f"An image {fault}. {IMAGE_KINDS}", field=where, reason="INVALID_IMAGE"
    )


def bad_document(field: str, media_type: str) -> UnsupportedError:
    """Claude does not read the type of a document."""
    return UnsupportedError(
        f"'{field}' has the type {shown(media_type)}. Claude reads PDF and plain text.",
        field=field,
    )


def no_data(field: str) -> InvalidRequestError:
    """An image, a document or a search result is empty."""
    return InvalidRequestError(f"'{field}' is empty.", field=field)


def empty_piece(field: str) -> InvalidRequestError:
    """A document or a search result has a text without content."""
    return InvalidRequestError(f"'{field}' contains an empty text. Remove the text.", field=field)


# Tools


def tool_twice(name: str, field: str) -> InvalidRequestError:
    """Two tools have the same name."""
    return InvalidRequestError(f"Two tools have the name {shown(name)}. Rename one.", field=field)


def no_such_tool(name: str, field: str) -> InvalidRequestError:
    """The named tool is not on offer."""
    return InvalidRequestError(
        f"'{field}' is {shown(name)}, which is not one of the tools on offer.", field=field
    )


def without_tools(field: str) -> InvalidRequestError:
    """A tool call is required, but there are no tools."""
    return InvalidRequestError(
        f"'{field}' requires a tool call, but the request offers no tools.", field=field
    )
