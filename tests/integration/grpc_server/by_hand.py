"""A gRPC client played by hand, for what no client does."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 4
NONE: Final[Mapping[str, str]] = MappingProxyType({})


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + struct.pack(">I", stream)
        + payload
    )


def literal(name: str, value: str) -> bytes:
    """A header as HPACK has it in its plainest form."""
    return b"\x00" + b"".join(bytes((len(text),)) + text.encode() for text in (name, value))


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0, 0, b"")


def call(stream: int, method: str, message: bytes, headers: Mapping[str, str] = NONE) -> bytes:
    """The beginning of a call, with a part of its request; streams of a client are odd."""
    all_headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "x",
        "content-type": "application/grpc",
        "te": "trailers",
        **headers,
    }
    block = b"".join(literal(*header) for header in all_headers.items())
    return frame(_HEADERS, _END_HEADERS, stream, block) + frame(_DATA, 0, stream, message)


def begun(method: str, message: bytes) -> bytes:
    """A connection with the beginning of a call."""
    return PREFACE + call(1, method, message)
