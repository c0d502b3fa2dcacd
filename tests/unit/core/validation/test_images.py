"""Which bytes are accepted as an image."""

from __future__ import annotations

import base64
import random
import struct
import zlib

import pytest

from bridge.core.contract.errors import InvalidRequestError
from bridge.core.contract.request import (
    DocumentPart,
    ImagePart,
    InlineData,
    Pieces,
    ToolResultPart,
    UrlSource,
    neutral_name,
)
from bridge.core.validation.images import any_scaled, image_fault, size_of, type_of
from bridge.core.validation.turns import check_message
from tests.support.harness import user

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
def test_an_image_is_known_by_its_size_and_nothing_less(media_type: str, data: bytes) -> None:
    assert type_of(of(data)) == media_type
    assert size_of(of(data)) == (2, 3)
    assert not any(size_of(of(data[:end])) for end in range(10))


def test_an_image_that_cannot_be_read_is_refused_wherever_it_is() -> None:
    broken = ImagePart(InlineData("image/png", of(PNG[:8])))
    check_message(user("x", ImagePart(InlineData("image/png", of(PNG)))), neutral_name)
    check_message(user(ImagePart(UrlSource("https://example.com/x.png"))), neutral_name)
    for message in (user(broken), user(ToolResultPart("c", (broken,)))):
        with pytest.raises(InvalidRequestError) as caught:
            check_message(message, neutral_name)
        assert caught.value.reason == "INVALID_IMAGE"


def test_a_size_is_what_a_decoder_makes_of_it() -> None:
    """Measured with Claude Code: it decodes a frame at the size that the frame declares."""
    large = b"," + struct.pack("<4H", 100, 200, 3000, 4000)
    for data, size in (
        (GIF.replace(GIF_FRAME, large + GIF_FRAME), (3100, 4200)),
        (b"GIF87a" + struct.pack("<HH", 2, 3) + bytes(3) + large, (3100, 4200)),
        # Of several frames it takes the first.
        (GIF + large, (2, 3)),
    ):
        assert size_of(of(data)) == size
    # A marker without a length would hide the frame after it.
    hidden = b"\xff\xd0" + struct.pack(">H", len(JPEG)) + JPEG[2:] + JPEG[2:]
    assert size_of(of(JPEG[:2] + hidden)) is None


def test_a_gif_without_an_image_is_none() -> None:
    assert size_of(of(GIF.replace(GIF_FRAME, b";"))) is None


# Large ones are read to their end.


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of grey dots: each line has a byte before it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(pixels, 0)
    return PNG[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


FRAME = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 3, 3000, 3) + bytes(9)
SCAN = b"\xff\xda" + struct.pack(">H", 12) + bytes(10) + b"\x01\xff\x00\x02\xff\xd3" * 9
TABLE = b"\xff\xc4" + struct.pack(">H", 4) + b"\xff\xd9"
LARGE = {
    "png": png(3000, 3, bytes(9003)),
    "jpeg": b"\xff\xd8" + TABLE + FRAME + SCAN + TABLE + SCAN + b"\xff\xd9",
    "gif": b"GIF89a"
    + struct.pack("<HH", 3000, 3)
    + GIF_TABLE
    + GIF_REMARK
    + b","
    + struct.pack("<4HB", 0, 0, 3000, 3, 0x80)
    + bytes(6)
    + b"\x02\x03abc\x01d\x00",
    "webp": b"RIFF"
    + struct.pack("<I", 56)
    + b"WEBPVP8 "
    + bytes(10)
    + struct.pack("<HH", 3000, 3)
    + bytes(34),
}


def is_damaged(data: bytes) -> bool:
    return image_fault(of(data)) == "is damaged"


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_one_is_refused_where_its_end_is_missing(kind: str) -> None:
    whole = LARGE[kind]
    assert not is_damaged(whole)
    assert not is_damaged(whole + b"what a camera adds")
    assert all(is_damaged(whole[:-end]) for end in (1, 2, 5, 12))


def test_a_large_png_is_refused_where_a_bit_is_wrong() -> None:
    damaged = bytearray(LARGE["png"])
    damaged[500] ^= 1
    assert is_damaged(bytes(damaged))


def test_a_large_jpeg_is_refused_where_garbage_follows_its_head() -> None:
    noise = random.Random(1).randbytes(100_000)
    assert is_damaged(b"\xff\xd8" + FRAME + SCAN + noise)
    # In four colours, as for print.
    assert is_damaged(
        LARGE["jpeg"].replace(FRAME, FRAME.replace(b"\x03" + bytes(9), b"\x04" + bytes(9)))
    )


def test_one_that_is_not_made_smaller_is_passed_on_as_it_is() -> None:
    """The API reports what is wrong with it; the CLI leaves it alone."""
    assert not is_damaged(png(2000, 3, bytes(6003))[:-20])


@pytest.mark.parametrize(
    ("size", "scaled"),
    [((2000, 1500), False), ((1932, 1932), False), ((1932, 1933), True), ((2001, 10), True)],
)
def test_it_is_known_which_are_made_smaller(size: tuple[int, int], scaled: bool) -> None:
    head = PNG[:16] + struct.pack(">II", *size) + bytes(9)
    image = ImagePart(InlineData("image/png", of(head)))
    assert any_scaled((user(image),)) is scaled
    assert any_scaled((user(ToolResultPart("c", (image,))),)) is scaled
    assert not any_scaled((user(DocumentPart(Pieces((image,)))),))
