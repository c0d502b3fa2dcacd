"""Whether image data are valid, and their type and size. Pure.

The CLI replaces an image that it cannot read or scale down by a remark of its own, which the model
would take for the caller's words.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from bridge.core.contract import ImagePart, InlineData, Message, ToolResultPart

Size = tuple[int, int]

# Measured: the CLI scales larger images down, and adds a text about it. The API counts an image in
# squares of 28 pixels a side.
_LONGEST_SIDE = 2_000
_MOST_SQUARES = 4_784
_SQUARE = 28

LARGEST_BASE64 = 5 * 1024 * 1024
"""Characters of an image that the API accepts; the CLI scales larger ones down."""


def image_fault(data: str) -> str:
    """Return what is wrong with base64 image data, as the end of a sentence; empty if nothing.

    Large images, which the CLI scales down, are read to their end; their pixels are not decoded.
    """
    size = size_of(data)
    if size is None or min(size) <= 0:
        return "cannot be read"
    if len(data) <= LARGEST_BASE64 and max(size) <= _LONGEST_SIDE:
        return ""
    try:
        whole = base64.b64decode(data, validate=True)
        return "" if _WHOLE[type_of(data) or ""](whole) else "is damaged"
    except (struct.error, IndexError, binascii.Error):
        return "is damaged"


def any_scaled(messages: Sequence[Message]) -> bool:
    """Whether the CLI scales an image down, and adds a text about that."""
    return any(
        size is not None and _is_scaled(size)
        for message in messages
        for image in _inline(message)
        for size in (size_of(image.base64),)
    )


def _inline(message: Message) -> Iterator[InlineData]:
    # The CLI leaves those in documents as they are.
    for part in message.parts:
        inner = part.content if isinstance(part, ToolResultPart) else (part,)
        for item in inner:
            if isinstance(item, ImagePart) and isinstance(item.source, InlineData):
                yield item.source


def _is_scaled(size: Size) -> bool:
    width, height = size
    squares = -(-width // _SQUARE) * -(-height // _SQUARE)
    return max(size) > _LONGEST_SIDE or squares > _MOST_SQUARES


def type_of(data: str) -> str | None:
    """Return the media type of base64 data by their first bytes; None if they are not an image."""
    try:
        head = base64.b64decode(data[:16], validate=True)
    except binascii.Error:
        return None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for sign, kind in _SIGNS.items() if head.startswith(sign)), None)


_SIGNS = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


def size_of(data: str) -> Size | None:
    """Return the width and height that a decoder makes of base64 data; None if unreadable."""
    read = _SIZES.get(type_of(data) or "")
    if read is None:
        return None
    try:
        # The header of a JPEG can contain a preview before its size.
        return read(base64.b64decode(data[: 4 * 100_000], validate=True))
    except (struct.error, IndexError, binascii.Error):
        return None


def _png(data: bytes) -> Size | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _gif(data: bytes) -> Size | None:
    if data[:6] not in (b"GIF87a", b"GIF89a"):
        return None
    width, height, flags = struct.unpack("<HHB", data[6:11])
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[at] == ord("!"):
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    if data[at] != ord(","):
        return None
    # A frame may be larger than the declared size of the image, and is decoded at its own size.
    left, top, wide, high = struct.unpack("<4H", data[at + 1 : at + 9])
    return max(width, left + wide), max(height, top + high)


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
        if marker == 0x01 or 0xD0 <= marker <= 0xD9:
            # It has no length and does not belong before the size: what follows could be another
            # image.
            return None
        # Start of a frame, except for the tables that share its range of markers.
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


# Whether a file is complete, as far as that is visible without decoding it.


def _whole_png(data: bytes) -> bool:
    at = 8
    while True:
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        if zlib.crc32(data[at + 4 : at + 8 + length]) != checksum:
            return False
        if kind == b"IEND":
            return True
        at += 12 + length


_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
# Numbers of colour components: the CLI cannot read CMYK.
_COMPONENTS = (1, 3)


def _whole_jpeg(data: bytes) -> bool:
    """Walk through the segments and scans to the end of the image."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        marker = found[1][0]
        if marker == 0xD9:
            return True
        if marker < 0xC0 or marker in (0xC8, 0xD8) or marker > 0xFE:
            return False
        at = found.end() + struct.unpack(">H", data[found.end() : found.end() + 2])[0]
        if marker in (0xC0, 0xC1, 0xC2) and data[found.end() + 7] not in _COMPONENTS:
            return False
    return False


def _whole_webp(data: bytes) -> bool:
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")


def _whole_gif(data: bytes) -> bool:
    """Walk to the end of the first frame, which is the one that is shown."""
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[at] == ord("!"):
        at = _after_blocks(data, at + 2)
    flags = data[at + 9]
    at = _after_blocks(data, at + 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0))
    return at <= len(data)


def _after_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += 1 + data[at]
    return at + 1


_WHOLE: Mapping[str, Callable[[bytes], bool]] = {
    "image/png": _whole_png,
    "image/gif": _whole_gif,
    "image/webp": _whole_webp,
    "image/jpeg": _whole_jpeg,
}
