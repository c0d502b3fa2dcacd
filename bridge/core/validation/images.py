"""Whether the bytes of a picture are a picture, and how large it is. Pure.

The CLI replaces one whose size it cannot read by a remark of its own, which the model would take
for the caller's words.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Mapping

Size = tuple[int, int]


def readable(media_type: str, data: str) -> bool:
    """Whether base64 data begin as a file of this type does, with a size in it."""
    return min(size_of(media_type, data) or (0,)) > 0


def size_of(media_type: str, data: str) -> Size | None:
    """Width and height of what a decoder makes of base64 data; None where that cannot be read."""
    read = _SIZES.get(media_type)
    if read is None:
        return None
    try:
        # The head of a JPEG can hold a preview before its size.
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
    # A frame may be larger than the picture is said to be, and is unpacked so.
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
            # Has no length, and no business before the size: what follows could be another one.
            return None
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
