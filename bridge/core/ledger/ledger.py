"""Records the usage and the cost of each request in a SQLite file, from a thread of its own.

A disk that is full or slow, or a file that another program has locked, delays no answer and fails
none: what could not be written is kept in memory and written with the next request.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from bridge.core.contract import UnavailableError
from bridge.core.ledger import tables
from bridge.core.ledger.entries import Dimension, Entry, UsageRow, entry_of
from bridge.core.system import identity_of
from bridge.core.telemetry import RequestRecord

logger = logging.getLogger(__name__)

T = TypeVar("T")

LEDGER_FILE: Final = "ledger.sqlite3"
"""Its name in the state folder."""
MAX_WAITING: Final = 10_000
"""Requests that wait for a file that cannot be written; further ones are lost, the oldest first."""


def unavailable() -> UnavailableError:
    """Return the error of a question that cannot be answered."""
    return UnavailableError(
        "This server cannot read its ledger; its log has the reason.",
        reason="LEDGER_UNAVAILABLE",
        retryable=False,
    )


class Ledger:
    """Records requests that got a process. An Observer."""

    def __init__(
        self, path: Path, *, now: Callable[[], float] = time.time, max_waiting: int = MAX_WAITING
    ) -> None:
        """Record in the file at `path`, which is opened with the first request."""
        self._path = path
        self._now = now
        self._waiting: deque[Entry] = deque(maxlen=max_waiting)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._scheduled = False
        """Whether a write is due that has not begun."""
        self._closed = False
        self._complained = False
        self._database: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._unbooked: set[RequestRecord] = set()
        self._booked = asyncio.Event()

    # Observer

    def began(self, record: RequestRecord) -> None:
        """Do nothing: only finished requests are recorded."""

    def ended(self, record: RequestRecord) -> None:
        """Let questions about the request wait for its cost."""
        self._unbooked.add(record)

    def booked(self, record: RequestRecord) -> None:
        """Record the request, without waiting."""
        self._unbooked.discard(record)
        self._booked.set()
        if record.times.leased_at is None or self._closed:
            return
        self._waiting.append(entry_of(record))
        if not self._scheduled:
            # One write is for all that wait: a file that stays locked must not pile them up.
            self._scheduled = True
            self._thread.submit(self._write_scheduled)

    # Questions

    async def request(self, id: str, key: str | None = None) -> Entry | None:
        """Return a request of a key that has ended, by the server's or the caller's own id.

        `key` None is any key. Waits for the cost. Raises UnavailableError if the file cannot
        be read.
        """
        while any(_matches(record, id, key) for record in self._unbooked):
            self._booked.clear()
            await self._booked.wait()
        return await self._ask(partial(tables.request, id=id, key=key))

    async def usage(
        self, by: Dimension, *, since: str = "", until: str = "9999-12-31", key: str | None = None
    ) -> list[UsageRow]:
        """Return the sums of the UTC days from `since` to `until`, both included (YYYY-MM-DD).

        `key` None is all keys. Raises UnavailableError if the file cannot be read.
        """
        return await self._ask(partial(tables.rows, by=by, since=since, until=until, key=key))

    async def aclose(self) -> None:
        """Write what waits, and close the file."""
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._finish)
        self._thread.shutdown()

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._answered, question
        )

    # In the thread

    def _answered(self, question: Callable[[sqlite3.Connection], T]) -> T:
        self._write()
        try:
            return question(self._connection())
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            raise unavailable() from error

    def _write_scheduled(self) -> None:
        # Before what waits is read: what comes later is for the next one.
        self._scheduled = False
        self._write()

    def _write(self) -> None:
        entries = list(self._waiting)
        if not entries:
            return
        try:
            tables.add(self._connection(), entries, self._now())
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
        else:
            for entry in entries:
                # Others may have been added meanwhile, and the oldest lost.
                if self._waiting and self._waiting[0] is entry:
                    self._waiting.popleft()
            self._complained = False

    def _finish(self) -> None:
        self._write()
        if self._waiting:
            logger.warning("%d requests are not in the ledger %s", len(self._waiting), self._path)
        self._close()

    def _failed(self, error: Exception) -> None:
        # The state of the connection is unknown: the next call opens a new one.
        self._close()
        if not self._complained:
            self._complained = True
            logger.warning("the ledger %s cannot be used: %s", self._path, error)

    def _connection(self) -> sqlite3.Connection:
        if self._database is not None and identity_of(self._path) != self._file:
            # The file was removed or replaced.
            self._close()
        if self._database is None:
            self._database = tables.connect(self._path)
            self._file = identity_of(self._path)
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            database, self._database = self._database, None
            database.close()


def _matches(record: RequestRecord, id: str, key: str | None) -> bool:
    request = record.request
    ids = (request.request_id, request.client_request_id)
    return id in ids and key in (None, request.caller)
