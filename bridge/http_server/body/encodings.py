"""Decompresses a body according to its `Content-Encoding`, up to a limit."""

from __future__ import annotations

import zlib
from typing import Final

from bridge.core.contract import InvalidRequestError
from bridge.http_server.errors import HttpError

_SUPPORTED: Final = "gzip, deflate"
_SHOWN: Final = 40
_ZLIB_METHOD: Final = 8


class BodyTooLargeError(Exception):
    """The decompressed body exceeds its limit."""


def check_encoding(encoding: str) -> str:
    """Return the name of a supported encoding, or "" for none; raises HttpError for others."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return ""
    if name in {"gzip", "x-gzip", "deflate"}:
        return name.removeprefix("x-")
    raise HttpError(
        415,
        f"The Content-Encoding {name[:_SHOWN]!r} is not supported. Use one of {_SUPPORTED}, "
        "or send the body unencoded.",
        reason="UNSUPPORTED_CONTENT_ENCODING",
    )


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompress an encoding that `check_encoding` returned, never to more than `limit` bytes."""
    if not encoding:
        return body
    unpacked = bytearray()
    rest = body
    try:
        while True:
            part = zlib.decompressobj(_window(rest, encoding))
            unpacked += part.decompress(rest, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise BodyTooLargeError
            if not part.eof:
                raise _malformed(encoding)
            rest = part.unused_data
            if not rest:
                return bytes(unpacked)
            if encoding != "gzip":  # the one of which several may follow each other
                raise _malformed(encoding)
    except zlib.error:
        raise _malformed(encoding) from None


def _window(body: bytes, encoding: str) -> int:
    """zlib's parameter for the format; many clients omit the header of a deflate stream."""
    if encoding == "gzip":
        return zlib.MAX_WBITS | 16
    headed = len(body) > 1 and body[0] & 15 == _ZLIB_METHOD and (body[0] << 8 | body[1]) % 31 == 0
    return zlib.MAX_WBITS if headed else -zlib.MAX_WBITS


def _malformed(encoding: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The request body is incomplete or not valid {encoding}, although its Content-Encoding is "
        f"{encoding}.",
        reason="INVALID_CONTENT_ENCODING",
    )
