"""An HTTPS proxy on loopback that routes every host to the simulator.

Claude Code refreshes a login at https://platform.claude.com and reads its profile at
https://api.anthropic.com, whatever ANTHROPIC_BASE_URL is set to. With HTTPS_PROXY set to this
proxy, NODE_EXTRA_CA_CERTS to the authority of its certificate, and NO_PROXY=127.0.0.1, these
requests arrive here.
"""

import asyncio
import contextlib
import ssl
from types import TracebackType
from typing import Self


class Proxy:
    """Answers CONNECT, terminates TLS, and forwards the plain content to `port`.

    `context` has a certificate for the requested hosts.
    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.hosts: list[str] = []
        self._port = port
        self._context = context
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The value for HTTPS_PROXY; known once started."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            # A client that disconnects, or does not trust the certificate, is not an error here.
            with contextlib.suppress(OSError, EOFError):
                await self._relay(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, *_ = (await reader.readuntil(b"\r\n\r\n")).split(b" ")
        if method != b"CONNECT":
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")
            return await writer.drain()
        self.hosts.append(target.decode("latin-1"))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        await writer.start_tls(self._context)
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            copies = [
                asyncio.create_task(_copy(reader, back)),
                asyncio.create_task(_copy(there, writer)),
            ]
            try:
                await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for copy in copies:
                    copy.cancel()
                await asyncio.gather(*copies, return_exceptions=True)
        finally:
            back.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        open_ = list(self._open)
        for task in open_:
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
