"""Taking what a client sent in small steps, however much of it came at once.

The system hands over up to 256 kB at a time, which can hold 40,000 chunks of one byte: three
seconds of work, in which no other answer is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

STEP_SECONDS: Final = 0.005
"""How long bytes are taken before others have their turn."""
PIECE_BYTES: Final = 1024
"""How many are taken between two looks at the clock, where each may mean something."""
BODY_BYTES: Final = 64 * 1024
"""The same inside a body of known length, where all of them mean the same."""


class Feeder(FlowControl):
    """Passes on bytes in pieces, and has the connection read no more before all are passed on."""

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
        """Take these after all that came before."""
        self._rest += data
        if self._next is None:
            self._step()

    def stop(self) -> None:
        """Take nothing more."""
        self._rest.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def pause_reading(self) -> None:
        """Take nothing more for now: what came waits to be used."""
        self._wanted = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Take more, first of what is here."""
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
