"""Receives the single request of a call, limited in time and in the memory of all calls.

gRPC does not reveal a message before it is complete, so before a call starts to read, it waits
until there is room for the largest possible message. Until then the client can send no more than
its flow-control window, 64 kB.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from bridge.core.access import Uploads
from bridge.core.contract import InvalidRequestError, RequestTimeoutError
from bridge.grpc_server.call_context import current_request_id

_log = logging.getLogger(__name__)

KEYLESS_SECONDS: Final = 1.0
"""How long a request may take to arrive if no key is required. Those of health checks are a few
bytes, which arrive with the head of their call."""
KEYLESS_AT_ONCE: Final = 4
"""The maximum number of such requests that are unfinished."""
STREAMS_AT_ONCE: Final = 4
"""The maximum number of open reflection calls per key: each may hold an unfinished message."""

_CANCELLED_SECONDS: Final = 1.0


class Receiver:
    """Reads single requests. Each counts as the largest that gRPC accepts."""

    def __init__(self, uploads: Uploads, max_message_bytes: int, seconds: float) -> None:
        """A request may take `seconds` to arrive, and wait as long for its turn."""
        self._uploads = uploads
        self._most = max_message_bytes
        self._seconds = seconds
        self._streams = Uploads(2 * STREAMS_AT_ONCE * max_message_bytes)
        self._keyless = Uploads(2 * KEYLESS_AT_ONCE * max_message_bytes)

    @property
    def receiving(self) -> int:
        """The number of calls that have room for a request that has not arrived, or wait for it."""
        parts = (self._uploads, self._keyless, self._streams)
        return sum(each.used for each in parts) // self._most + self.waiting

    @property
    def waiting(self) -> int:
        """The number of calls that wait for room."""
        return sum(each.waiting for each in (self._uploads, self._keyless, self._streams))

    def stream(self, caller: str) -> AbstractAsyncContextManager[None]:
        """Hold room for a call of another service whose requests are a stream, until the block
        ends.
        """
        return self._streams.room(caller, self._most, self._seconds)

    async def single(self, requests: AsyncIterator[Any], caller: str, *, needs_key: bool) -> Any:
        """Read the request of a call; raises a BridgeError if it does not arrive."""
        if needs_key:
            async with self._uploads.room(caller, self._most, self._seconds):
                return await self._single(requests, self._seconds)
        async with self._keyless.room("", self._most, self._seconds):
            return await self._single(requests, min(self._seconds, KEYLESS_SECONDS))

    async def _single(self, requests: AsyncIterator[Any], seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                async for request in requests:
                    return request
        except TimeoutError:
            raise RequestTimeoutError(
                f"The request did not arrive within {seconds:g} seconds."
            ) from None
        try:
            # gRPC ends the stream before it cancels the call, if it does. Then it has sent the
            # status itself, without details.
            await asyncio.sleep(_CANCELLED_SECONDS)
        except asyncio.CancelledError:
            _log.info(
                "request %s: no whole message arrived: the client left, or it has over %d bytes",
                current_request_id.get(),
                self._most,
            )
            raise
        raise InvalidRequestError("The call has no request message.", reason="MALFORMED_MESSAGE")
