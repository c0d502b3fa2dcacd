"""Unknown fields of a request, which are reported like parameters without effect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from bridge.core.contract import TooLargeError
from bridge.core.validation import without_effect

_MOST_BYTES: Final = 64 * 1024
"""Of all unknown fields of a request: each takes two bytes or more, and once read a hundred."""

_INDEX: Final = re.compile(r"\[\d+\]")


def unknown_fields(request: Message, *, strict: bool) -> tuple[str, ...]:
    """The paths of a request's unknown fields, by their numbers: `tools.100`.

    Raises UnsupportedError for the first if the request is strict, and TooLargeError.
    """
    known = type(request)()
    known.CopyFrom(request)
    known.DiscardUnknownFields()
    size = request.ByteSize() - known.ByteSize()
    if not size:
        return ()
    if size > _MOST_BYTES:
        raise TooLargeError(
            f"Unknown fields may have at most {_MOST_BYTES} bytes in total. "
            "Omit them, or use a server that supports them."
        )
    paths = _paths(request, "")
    if strict:
        raise without_effect(next(paths))
    return tuple(dict.fromkeys(_INDEX.sub("", path) for path in paths))


def _paths(message: Message, where: str) -> Iterator[str]:
    unknown = UnknownFieldSet(message)
    for number in range(len(unknown)):
        yield f"{where}{unknown[number].field_number}"
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            # Entries of a map keep none.
            continue
        if not field.is_repeated:
            yield from _paths(value, f"{where}{field.name}.")
            continue
        for index, inner in enumerate(value):
            yield from _paths(inner, f"{where}{field.name}[{index}].")
