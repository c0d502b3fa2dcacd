"""What the fields of a request are called in bridge.v1. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.message import Message

from bridge.core.contract import InvalidRequestError, Place

COMPLETION: Final = "completion."
"""What the fields of a CompletionSpec are called in errors: as fields of the request's field."""

_JSON: Final[Mapping[str, str]] = {"output_format.schema": "_json"}
"""Ends of names: the proto has some values as JSON text."""

_BESIDE: Final[Mapping[str, str]] = {"client_request_id": "request_id", "labels": "labels"}
"""Fields beside the CompletionSpec."""


def field_name_of(prefix: str, place: Place) -> str:
    """The proto's name of a field; `prefix` comes before those that are not in a message."""
    if not place.origin:
        if beside := _BESIDE.get(place.path):
            return f"{prefix.removesuffix(COMPLETION)}{beside}"
        return f"{prefix}{place.path}{_JSON.get(place.path, '')}"
    match place.rest:
        case "":
            # Errors about a part name its message.
            return place.origin.partition(".parts[")[0]
        case ".tool_call.arguments":
            return f"{place.origin}.arguments_json"
        case ".tool_call.id" | ".tool_call.name":
            return f"{place.origin}{place.rest.removeprefix('.tool_call')}"
        case _:
            return place.origin


def not_one(message: Message, oneof: str, path: str) -> InvalidRequestError:
    """A oneof has no field, or one that this server's version of the proto does not have."""
    *names, last = (field.name for field in message.DESCRIPTOR.oneofs_by_name[oneof].fields)
    return InvalidRequestError(
        f"'{path}' must have exactly one of the fields {', '.join(names)} and {last}.", field=path
    )
