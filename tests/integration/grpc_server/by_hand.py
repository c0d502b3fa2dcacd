"""A gRPC client played by hand, for what no client does."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Final

from google.protobuf.message import Message

from tests.support.waiting import soon

_DATA, HEADERS, _SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
ACK: Final = 1
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
    return frame(HEADERS, _END_HEADERS, stream, block) + frame(_DATA, 0, stream, message)


def begun(method: str, message: bytes) -> bytes:
    """A connection with the beginning of a call."""
    return PREFACE + call(1, method, message)


def prefixed(message: Message) -> bytes:
    """A message as it is on the wire."""
    content = message.SerializeToString()
    return b"\0" + struct.pack(">I", len(content)) + content


class ByHand:
    """A connection that sends and receives frames, and answers no ping."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def until(self, *kinds: int) -> tuple[int, int, bytes]:
        """Read up to a frame of these kinds; returns its kind, flags and content.

        Raises IncompleteReadError at the end of the connection.
        """
        while True:
            head = await soon(self._reader.readexactly(9))
            content = await soon(self._reader.readexactly(int.from_bytes(head[:3], "big")))
            if head[3] in kinds:
                return head[3], head[4], content

    async def ping(self) -> int | None:
        """Send a ping; returns the error code of the GOAWAY that comes for it, if one does."""
        self.writer.write(frame(PING, 0, 0, b"12345678"))
        while True:
            kind, flags, content = await self.until(PING, GOAWAY)
            if kind == GOAWAY:
                return int.from_bytes(content[4:8], "big")
            if flags & ACK:
                return None


@asynccontextmanager
async def by_hand(port: int) -> AsyncGenerator[ByHand, None]:
    """Connect, and greet the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE)
    try:
        yield ByHand(reader, writer)
    finally:
        writer.close()
