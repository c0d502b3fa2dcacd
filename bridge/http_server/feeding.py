"""Processes received bytes in small steps, however many arrive at once.

The system delivers up to 256 kB at a time, which can contain 40,000 chunks of one byte: three
seconds of work, during which no other answer would be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

STEP_SECONDS: Final = 0.005
"""How long bytes are processed before other work gets its turn."""
PIECE_BYTES: Final = 1024
"""Bytes processed between two looks at the clock, where each may be a chunk or a header."""
BODY_BYTES: Final = 64 * 1024
"""The same inside a body of known length, where nothing has to be parsed."""


class Feeder(FlowControl):
    """Passes on bytes in pieces, and pauses the connection until all are passed on."""

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[bytes], None],
        piece_bytes: Callable[[], int],
    ) -> None:
        super().__init__(transport)
        self._loop = loop
        self._take = take
        self._piece_bytes = piece_bytes
        self._rest = bytearray()
        self._wanted = True
        self._next: asyncio.Handle | None = None

    def feed(self, data: bytes) -> None:
        """Append bytes to those not yet passed on."""
        self._rest += data
        if self._next is None:
            self._step()

    def stop(self) -> None:
        """Drop the remaining bytes."""
        self._rest.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def pause_reading(self) -> None:
        """Pass on nothing for now."""
        self._wanted = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Continue, first with the remaining bytes."""
        self._wanted = True
        if not self._rest:
            super().resume_reading()
        elif self._next is None:
            self._next = self._loop.call_soon(self._step)

    def _step(self) -> None:
        self._next = None
        until = self._loop.time() + STEP_SECONDS
        while self._rest and self._wanted:
            size = self._piece_bytes()
            piece = bytes(self._rest[:size])
            del self._rest[:size]
            self._take(piece)
            if self._rest and self._loop.time() > until:
                super().pause_reading()
                if self._next is None:
                    self._next = self._loop.call_soon(self._step)
                return
        if self._wanted:
            super().resume_reading()
