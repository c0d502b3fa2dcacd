"""How much memory requests may take while they come in, before anything else limits them.

A key's limits count from the admission of a request on, when all of it is there. Until then it is
bytes that somebody sends, as slowly as they like, on as many connections as they like.
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
"""When others have come, nobody knows."""
DEFAULT_BYTES: Final = 16 * BOUNDS.request_bytes


@dataclass(slots=True)
class Upload:
    """One request that is coming in."""

    uploads: Uploads
    caller: str
    size: int = 0

    def hold(self, size: int) -> None:
        """Count so many bytes for it from now on; raises RateLimitedError."""
        self.uploads.check(self.caller, size - self.size)
        self.uploads.count(self.caller, size - self.size)
        self.size = size


@dataclass(frozen=True, slots=True)
class _Waiting:
    caller: str
    size: int
    admitted: asyncio.Future[None]


class Uploads:
    """The bytes of all requests that are coming in. One key may have half of them.

    Where bytes are seen as they come, each is counted; where they are seen only when all are there,
    `room` is waited for first. For one event loop.
    """

    def __init__(self, total: int = DEFAULT_BYTES) -> None:
        self._total = total
        self._each = total // 2
        self._used = 0
        self._by_caller: Counter[str] = Counter()
        self._line: list[_Waiting] = []

    @property
    def used(self) -> int:
        """Bytes that are counted now."""
        return self._used

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._line)

    @contextmanager
    def receiving(self, caller: str) -> Iterator[Upload]:
        """Count a request while its bytes come."""
        upload = Upload(self, caller)
        try:
            yield upload
        finally:
            self.count(caller, -upload.size)

    @asynccontextmanager
    async def room(self, caller: str, size: int, seconds: float) -> AsyncIterator[None]:
        """Wait until so many bytes may come; raises RateLimitedError after so many seconds."""
        if self._over(caller, size):
            await self._wait(caller, size, seconds)
        else:
            self.count(caller, size)
        try:
            yield
        finally:
            self.count(caller, -size)

    def check(self, caller: str, size: int) -> None:
        """Raise RateLimitedError where so many bytes more are too many."""
        if self._over(caller, size):
            raise self._refusal(caller, size)

    def count(self, caller: str, size: int) -> None:
        """Add what came, or take off what is gone, and let those in who now have room."""
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
            f"{whose} takes {most} bytes of unfinished requests at once, and they are in use. "
            "Send fewer large requests at the same time.",
            reason="UPLOADS_TOO_LARGE",
            retry_after=RETRY_SECONDS,
        )
