"""A limit on the memory of requests that are still being received.

A key's limits apply once a request is complete. Until then, any client may send bytes as slowly as
it likes, on as many connections as it likes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from bridge.core.contract import BOUNDS, RateLimitedError

RETRY_SECONDS: Final = 1.0
"""It is unknown when other uploads end."""
DEFAULT_BYTES: Final = 16 * BOUNDS.request_bytes


@dataclass(slots=True)
class Upload:
    """One request that is being received."""

    uploads: Uploads
    caller: str
    size: int = 0

    def hold(self, size: int) -> None:
        """Count this many bytes for it from now on; raises RateLimitedError."""
        self.uploads.check(self.caller, size - self.size)
        self.uploads.count(self.caller, size - self.size)
        self.size = size


@dataclass(frozen=True, slots=True)
class _Waiting:
    caller: str
    size: int
    admitted: asyncio.Future[None]


class Uploads:
    """The bytes of all requests that are being received. One key may have half of them.

    If bytes are visible as they arrive, each is counted; if they are visible only once complete,
    `room` is awaited first. For one event loop.
    """

    def __init__(self, total: int = DEFAULT_BYTES) -> None:
        self._total = total
        self._each = total // 2
        self._used = 0
        self._by_caller: Counter[str] = Counter()
        self._line: list[_Waiting] = []

    @property
    def used(self) -> int:
        """Bytes that are currently counted."""
        return self._used

    @property
    def waiting(self) -> int:
        """How many uploads wait for room."""
        return len(self._line)

    @contextmanager
    def receiving(self, caller: str) -> Iterator[Upload]:
        """Count a request while its bytes arrive."""
        upload = Upload(self, caller)
        try:
            yield upload
        finally:
            self.count(caller, -upload.size)

    @asynccontextmanager
    async def room(self, caller: str, size: int, seconds: float) -> AsyncIterator[None]:
        """Wait until `size` bytes may be received; raises RateLimitedError after `seconds`."""
        if self._over(caller, size):
            await self._wait(caller, size, seconds)
        else:
            self.count(caller, size)
        try:
            yield
        finally:
            self.count(caller, -size)

    def check(self, caller: str, size: int) -> None:
        """Raise RateLimitedError if `size` more bytes exceed the limit."""
        if self._over(caller, size):
            raise self._refusal(caller, size)

    def count(self, caller: str, size: int) -> None:
        """Add received bytes, or subtract freed ones and wake the waiters that now have room."""
        self._used += size
        self._by_caller[caller] += size
        if not self._by_caller[caller]:
            del self._by_caller[caller]
        if size >= 0:
            return
        for waiting in tuple(self._line):
            if not waiting.admitted.done() and not self._over(waiting.caller, waiting.size):
                waiting.admitted.set_result(None)
                self.count(waiting.caller, waiting.size)

    async def _wait(self, caller: str, size: int, seconds: float) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(caller, size, admitted)
        self._line.append(waiting)
        try:
            async with asyncio.timeout(seconds):
                await admitted
        except (TimeoutError, asyncio.CancelledError) as error:
            if admitted.done() and not admitted.cancelled():
                self.count(caller, -size)
            if isinstance(error, TimeoutError):
                raise self._refusal(caller, size) from None
            raise
        finally:
            self._line.remove(waiting)

    def _over(self, caller: str, size: int) -> bool:
        over_each = self._by_caller[caller] + size > self._each
        return size > 0 and (over_each or self._used + size > self._total)

    def _refusal(self, caller: str, size: int) -> RateLimitedError:
        whose, most = ("This key", self._each)
        if self._by_caller[caller] + size <= self._each:
            whose, most = ("This server", self._total)
        return RateLimitedError(
            f"{whose} has reached its limit of {most} bytes of unfinished requests. "
            "Send fewer large requests at the same time.",
            reason="UPLOADS_TOO_LARGE",
            retry_after=RETRY_SECONDS,
        )
