"""A small HTTP/1.1 client on asyncio streams, so that little of the measured time is the client's.

One request at a time on a persistent connection. No TLS, no redirects, loopback only.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any


class HttpError(Exception):
    """The server answered with a status other than 200."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"HTTP {status}: {body[:300]}")
        self.status = status
        self.body = body


class Connection:
    """A connection to one server, opened on first use."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, unless connected."""
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.abort()
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self._reader, self._writer

    async def post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Send JSON and yield the pieces of the answer's body as they arrive."""
        content = json.dumps(body).encode()
        async with aclosing(self._exchange("POST", path, content, headers or {})) as pieces:
            async for piece in pieces:
                yield piece

    async def get_json(self, path: str) -> Any:
        """Fetch a path and decode its JSON."""
        pieces = [piece async for piece in self._exchange("GET", path, b"", {})]
        return json.loads(b"".join(pieces))

    def abort(self) -> None:
        """Abort the connection, like a client that disconnects."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def aclose(self) -> None:
        """Close the connection."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _exchange(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str]
    ) -> AsyncGenerator[bytes, None]:
        lines = [f"{method} {path} HTTP/1.1", f"host: {self._host}:{self._port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if content:
            lines += ["content-type: application/json", f"content-length: {len(content)}"]
        reader, head = await self._send("\r\n".join([*lines, "", ""]).encode() + content)
        status = int(head.split(" ", 2)[1])
        if status == 200:
            async for piece in _body(reader, head):
                yield piece
        else:
            text = b"".join([piece async for piece in _body(reader, head)])
            raise HttpError(status, text.decode(errors="replace"))

    async def _send(self, request: bytes) -> tuple[asyncio.StreamReader, str]:
        """Send a request and read the head of the answer."""
        reused = self._writer is not None
        reader, writer = await self.open()
        writer.write(request)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            # The server may have closed the idle connection.
            self.abort()
            if not reused:
                raise
            return await self._send(request)
        return reader, head.decode("latin-1").lower()


async def _body(reader: asyncio.StreamReader, head: str) -> AsyncGenerator[bytes, None]:
    if "transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif (at := head.find("content-length:")) >= 0:
        length = int(head[at:].split("\r\n", 1)[0].split(":", 1)[1])
        yield await reader.readexactly(length)
