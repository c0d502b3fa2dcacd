"""Which bytes are taken for a picture."""

from __future__ import annotations

import base64
import struct

import pytest

from bridge.core.contract.errors import InvalidRequestError
from bridge.core.contract.request import (
    ImagePart,
    InlineData,
    ToolResultPart,
    UrlSource,
    neutral_name,
)
from bridge.core.validation.images import readable, size_of
from bridge.core.validation.turns import check_message
from tests.harness import user

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2, 3) + bytes(9)
GIF_TABLE = b"\x81\0\0" + bytes(12)
GIF_REMARK = b"!\xfe\x02ab\x01c\0"
GIF_FRAME = b"," + struct.pack("<4H", 0, 0, 2, 3)
GIF = b"GIF89a" + struct.pack("<HH", 2, 3) + GIF_TABLE + GIF_REMARK + GIF_FRAME
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
    assert size_of(media_type, of(data)) == (2, 3)
    assert not any(readable(media_type, of(data[:end])) for end in range(10))
    for other in {"image/png", "image/gif", "image/jpeg", "image/webp"} - {media_type}:
        assert not readable(other, of(data))


def test_a_picture_that_cannot_be_read_is_refused_wherever_it_is() -> None:
    broken = ImagePart(InlineData("image/png", of(PNG[:8])))
    check_message(user("x", ImagePart(InlineData("image/png", of(PNG)))), neutral_name)
    check_message(user(ImagePart(UrlSource("https://example.com/x.png"))), neutral_name)
    for message in (user(broken), user(ToolResultPart("c", (broken,)))):
        with pytest.raises(InvalidRequestError) as caught:
            check_message(message, neutral_name)
        assert caught.value.reason == "INVALID_IMAGE"


def test_a_size_is_what_a_decoder_makes_of_it() -> None:
    """Measured with Claude Code: it unpacks a frame as large as that says it is."""
    large = b"," + struct.pack("<4H", 100, 200, 3000, 4000)
    for data, size in (
        (GIF.replace(GIF_FRAME, large + GIF_FRAME), (3100, 4200)),
        (b"GIF87a" + struct.pack("<HH", 2, 3) + bytes(3) + large, (3100, 4200)),
        # Of several frames it takes the first.
        (GIF + large, (2, 3)),
    ):
        assert size_of("image/gif", of(data)) == size
    # A marker without a length would hide the frame that it stands before.
    hidden = b"\xff\xd0" + struct.pack(">H", len(JPEG)) + JPEG[2:] + JPEG[2:]
    assert size_of("image/jpeg", of(JPEG[:2] + hidden)) is None


def test_a_gif_without_a_picture_is_none() -> None:
    assert not readable("image/gif", of(GIF.replace(GIF_FRAME, b";")))
