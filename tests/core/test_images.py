"""Which bytes are taken for a picture."""

from __future__ import annotations

import base64
import struct

import pytest

from bridge.core.errors import InvalidRequestError
from bridge.core.images import check_images, readable
from bridge.core.model import ImagePart, InlineData, ToolResultPart, UrlSource
from tests.harness import user

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2, 3) + bytes(9)
GIF = b"GIF89a" + struct.pack("<HH", 2, 3)
JPEG = (
    b"\xff\xd8\xff\xe0"
    + struct.pack(">H", 16)
    + bytes(14)
    + b"\xff\xc2"
    + struct.pack(">HBHH", 11, 8, 3, 2)
)
WEBP_X = b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x01\0\0\x02\0\0"
WEBP_L = b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"\x2f" + struct.pack("<I", 1 | 2 << 14)
WEBP = b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 2, 3)


def of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        ("image/png", PNG),
        ("image/gif", GIF),
        ("image/jpeg", JPEG),
        ("image/webp", WEBP_X),
        ("image/webp", WEBP_L),
        ("image/webp", WEBP),
    ],
    ids=["png", "gif", "jpeg", "webp extended", "webp lossless", "webp"],
)
def test_a_picture_is_known_by_its_size_and_nothing_less(media_type: str, data: bytes) -> None:
    assert readable(media_type, of(data))
    assert not any(readable(media_type, of(data[:end])) for end in range(10))
    for other in {"image/png", "image/gif", "image/jpeg", "image/webp"} - {media_type}:
        assert not readable(other, of(data))


def test_a_picture_that_cannot_be_read_is_refused_wherever_it_is() -> None:
    broken = ImagePart(InlineData("image/png", of(PNG[:8])))
    check_images((user("x", ImagePart(InlineData("image/png", of(PNG)))),))
    check_images((user(ImagePart(UrlSource("https://example.com/x.png"))),))
    for message in (user(broken), user(ToolResultPart("c", (broken,)))):
        with pytest.raises(InvalidRequestError) as caught:
            check_images((message,))
        assert caught.value.reason == "INVALID_IMAGE"
