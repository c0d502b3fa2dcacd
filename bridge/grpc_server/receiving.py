"""Receiving the single request of a call, within bounds of time and of everybody's memory.

gRPC keeps what has come of a message to itself until all of it is there, so a call waits for as
much room as the largest message may take before it begins to read. Until then the client can send
no more than its flow-control window, 64 kB.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from bridge.core.access import Uploads
from bridge.core.contract import InvalidRequestError, RequestTimeoutError

KEYLESS_SECONDS: Final = 1.0
"""How long a request may take to come where no key is needed. Those of health checks are a few
bytes, which come with the head of their call."""
KEYLESS_AT_ONCE: Final = 4
"""How many of those may be unfinished at once."""
STREAMS_AT_ONCE: Final = 4
"""How many calls of reflection a key may have open: each may hold an unfinished message."""


class Receiver:
    """Reads single requests. Each may turn out as large as gRPC takes."""

    def __init__(self, uploads: Uploads, max_message_bytes: int, seconds: float) -> None:
        """A request may take so many seconds to come, and wait as long for its turn."""
        self._uploads = uploads
        self._most = max_message_bytes
        self._seconds = seconds
        self._streams = Uploads(2 * STREAMS_AT_ONCE * max_message_bytes)
        self._keyless = Uploads(2 * KEYLESS_AT_ONCE * max_message_bytes)

    @property
    def receiving(self) -> int:
        """How many requests there is room for that have not come, and calls that count as such."""
        parts = (self._uploads, self._keyless, self._streams)
        return sum(each.used for each in parts) // self._most + self.waiting

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return sum(each.waiting for each in (self._uploads, self._keyless, self._streams))

    def stream(self, caller: str) -> AbstractAsyncContextManager[None]:
        """Room for a call of another's service whose requests are a stream, until its end."""
        return self._streams.room(caller, self._most, self._seconds)

    async def single(self, requests: AsyncIterator[Any], caller: str, *, needs_key: bool) -> Any:
        """The request of a call; raises a BridgeError where it does not come."""
        if needs_key:
            async with self._uploads.room(caller, self._most, self._seconds):
                return await _single(requests, self._seconds)
        async with self._keyless.room("", self._most, self._seconds):
            return await _single(requests, min(self._seconds, KEYLESS_SECONDS))


async def _single(requests: AsyncIterator[Any], seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds):
            async for request in requests:
                return request
    except TimeoutError:
        raise RequestTimeoutError(
            f"The request did not arrive within {seconds:g} seconds."
        ) from None
    raise InvalidRequestError("The call has no request message.", reason="MALFORMED_MESSAGE")
