"""What is said of a request that is wrong, in the same words for every API.

Whoever finds the fault knows what the caller calls the field (`tools[0].function.name`); each
sentence says the rest.
"""

from __future__ import annotations

from typing import Final

from bridge.core.contract import InvalidRequestError, UnsupportedError, shown

TOOL_NAME: Final = '1 to 64 letters, digits, "_" and "-"'
NOT_EMPTY: Final = "an array that is not empty"


def missing(field: str, remedy: str = "") -> InvalidRequestError:
    """Name a field that must be there."""
    return InvalidRequestError(
        f"Missing required parameter: '{field}'.{remedy and f' {remedy}'}",
        field=field,
        reason="MISSING_REQUIRED_PARAMETER",
    )


def invalid(field: str, expected: str) -> InvalidRequestError:
    """Name a value that is not `expected`."""
    return InvalidRequestError(
        f"Invalid value for '{field}': it should be {expected}.", field=field
    )


def without_effect(field: str, why: str = "has no effect on this server") -> UnsupportedError:
    """Name a parameter that would be ignored, in a request that is strict."""
    return UnsupportedError(
        f"'{field}' {why}, and the request is strict. Leave it out, or do without strict mode.",
        field=field,
        reason="UNSUPPORTED_PARAMETER",
    )


# The turns of a conversation


def ends_with_assistant(where: str) -> InvalidRequestError:
    """The last message, in `where`, is the assistant's."""
    return InvalidRequestError(
        "The last message is the assistant's, and Claude does not continue it. End with the "
        "user's words, or with the results of the assistant's tool calls.",
        field=where,
    )


def nothing_said(where: str) -> InvalidRequestError:
    """The last message, in `where`, is empty."""
    return InvalidRequestError(
        "The last message must be from the user and must not be empty.", field=where
    )


def unanswered_call(call_id: str, where: str, field: str) -> InvalidRequestError:
    """No result follows a call that was made in `where`; `field` is to blame."""
    return InvalidRequestError(
        f"The tool call {shown(call_id)} in '{where}' has no result. The results of all its calls "
        "must follow a turn at once, each with the id of its call.",
        field=field,
    )


def unknown_call(call_id: str, where: str, field: str) -> InvalidRequestError:
    """A result in `where` answers no call that waits for one; `field` is to blame."""
    return InvalidRequestError(
        f"'{where}' answers the tool call {shown(call_id)}, which the assistant's turn before it "
        "did not make, or which has a result already.",
        field=field,
    )


OWN_IDS: Final = "Give each call an id of its own."


def call_id_twice(call_id: str, field: str, remedy: str = OWN_IDS) -> InvalidRequestError:
    """Two calls of one turn have the same id."""
    return InvalidRequestError(
        f"The tool call id {shown(call_id)} is used twice in one turn. {remedy}", field=field
    )


# What messages hold


def media_misplaced(field: str) -> InvalidRequestError:
    """A picture or a file stands where the user does not speak."""
    return InvalidRequestError(
        f"'{field}' is for text. Put pictures and files into a user message.", field=field
    )


def bad_result(field: str) -> InvalidRequestError:
    """A tool's result holds what none can."""
    return InvalidRequestError(
        f"'{field}': a tool's result may hold text, images and documents only.", field=field
    )


def failed_without_reason(field: str) -> InvalidRequestError:
    """The result of a failed call is not text, or has none."""
    return InvalidRequestError(
        f"'{field}': the result of a tool call that failed must be text that says why.",
        field=field,
    )


def bad_image(field: str, remedy: str) -> InvalidRequestError:
    """A picture cannot be used."""
    return InvalidRequestError(
        f"'{field}' is no picture that can be used. {remedy}",
        field=field,
        reason="INVALID_IMAGE_URL",
    )


IMAGE_KINDS: Final = "Claude reads PNG, JPEG, GIF and WebP."


def unusable_image(fault: str, where: str) -> InvalidRequestError:
    """The bytes of an image, in `where`, have a fault: see `image_fault`."""
    return InvalidRequestError(
        f"An image {fault}. {IMAGE_KINDS}", field=where, reason="INVALID_IMAGE"
    )


def bad_document(field: str, media_type: str) -> UnsupportedError:
    """A document is of a type that Claude does not read."""
    return UnsupportedError(
        f"'{field}' is of the type {shown(media_type)}. Claude reads PDF and plain text.",
        field=field,
    )


def no_data(field: str) -> InvalidRequestError:
    """A picture or a document is empty."""
    return InvalidRequestError(f"'{field}' holds no data.", field=field)


# Tools


def tool_twice(name: str, field: str) -> InvalidRequestError:
    """Two tools have the same name."""
    return InvalidRequestError(
        f"There are two tools of the name {shown(name)}. Rename one.", field=field
    )


def no_such_tool(name: str, field: str) -> InvalidRequestError:
    """A tool is named that is not on offer."""
    return InvalidRequestError(
        f"'{field}' is {shown(name)}, which is none of the tools on offer.", field=field
    )


def without_tools(field: str) -> InvalidRequestError:
    """A call is asked for where there is nothing to call."""
    return InvalidRequestError(
        f"'{field}' asks for a tool call, but the request offers no tools.", field=field
    )
