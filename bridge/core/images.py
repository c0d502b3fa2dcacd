"""Whether the bytes of a picture are a picture. Pure.

The CLI replaces one whose size it cannot read by a remark of its own, which the model would take
for the caller's words.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence

from bridge.core.errors import InvalidRequestError
from bridge.core.model import ImagePart, InlineData, Message, ToolResultPart

Size = tuple[int, int]


def check_images(messages: Sequence[Message]) -> None:
    """Raise InvalidRequestError for the first picture that cannot be read."""
    for message in messages:
        for part in _images(message):
            if not isinstance(part.source, InlineData):
                continue
            media_type = part.source.media_type
            if not readable(media_type, part.source.base64):
                raise InvalidRequestError(
                    f"A picture is not a readable {media_type} file.",
                    field=message.origin or "messages",
                    reason="INVALID_IMAGE",
                )


def _images(message: Message) -> Iterator[ImagePart]:
    for part in message.parts:
        if isinstance(part, ImagePart):
            yield part
        elif isinstance(part, ToolResultPart):
            yield from (inner for inner in part.content if isinstance(inner, ImagePart))


def readable(media_type: str, data: str) -> bool:
    """Whether base64 data begin as a file of this type does, with a size in it."""
    size_of = _SIZES.get(media_type)
    if size_of is None:
        return False
    try:
        # The head of a JPEG can hold a preview before its size.
        size = size_of(base64.b64decode(data[: 4 * 100_000], validate=True))
    except (struct.error, IndexError, binascii.Error):
        return False
    return size is not None and min(size) > 0


def _png(data: bytes) -> Size | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _gif(data: bytes) -> Size | None:
    if data[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    width, height = struct.unpack("<HH", data[6:10])
    return width, height


def _webp(data: bytes) -> Size | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(
                data[27:30], "little"
            )
        case b"VP8L":
            (bits,) = struct.unpack("<I", data[21:25])
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(data: bytes) -> Size | None:
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        # Start of a frame, but for the tables that share its range of markers.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 if marker == 0xFF else 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


_SIZES: Mapping[str, Callable[[bytes], Size | None]] = {
    "image/png": _png,
    "image/gif": _gif,
    "image/webp": _webp,
    "image/jpeg": _jpeg,
}
