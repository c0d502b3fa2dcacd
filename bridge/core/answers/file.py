"""The SQLite file of a server, opened on first use and accessed from a separate thread; or a
database in its memory."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from bridge.core.answers.database import connect, connect_memory, used_bytes
from bridge.core.answers.texts import DamagedError
from bridge.core.contract import StoreUnavailableError
from bridge.core.system import identity_of, transaction

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DAY: Final = 86_400.0


class SqliteFile:
    """A file that only its owner can read, and of which only so much is kept, and only so long.

    What is kept belongs to conversations, each of which is deleted as a whole.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        days: float = 30.0,
        max_bytes: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep a conversation for `days` after its last use, in at most `max_bytes`.

        Without a path, in memory.
        """
        self._path = path
        self._seconds = days * _DAY
        self._max_bytes = max_bytes
        self.clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="responses")
        self._open_database: sqlite3.Connection | None = None
        self._open_file: tuple[int, int] | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run work in the thread; raises StoreUnavailableError if the file cannot be used."""
        return await self._in_thread(lambda: work(self._database()))

    async def expire(self) -> None:
        """Delete what has expired. Whatever stores something also does this."""
        await self._in_thread(self._expire)

    async def aclose(self) -> None:
        """Close the file after all pending operations."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    # In the thread

    @property
    def oldest(self) -> float:
        """What was last used then, or before, has expired."""
        return self.clock() - self._seconds

    def expire_in(self, database: sqlite3.Connection) -> None:
        """Delete what has expired, in a transaction."""
        database.execute("DELETE FROM conversations WHERE used_at <= ?", (self.oldest,))

    def used(self, database: sqlite3.Connection, conversation: str, owner: str) -> None:
        """Start the time of a conversation over; it is created if there is none."""
        database.execute(
            "INSERT INTO conversations VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at",
            (conversation, owner, self.clock()),
        )

    def made_room(self, database: sqlite3.Connection, keep: str) -> bool:
        """Delete conversations until the file is small enough, except `keep`."""
        while used_bytes(database) > self._max_bytes:
            row = database.execute(
                "SELECT id FROM conversations WHERE id <> ? ORDER BY used_at LIMIT 1", (keep,)
            ).fetchone()
            if row is None:
                return False
            database.execute("DELETE FROM conversations WHERE id = ?", row)
        return True

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError, DamagedError) as error:
            place = self._path or "memory"
            if self._path is not None:
                # The state of the connection is unknown: the next call opens a new one.
                self._close()
            logger.warning("the stored responses in %s cannot be used: %s", place, error)
            raise StoreUnavailableError from error

    def _database(self) -> sqlite3.Connection:
        if self._path is None:
            self._open_database = self._open_database or connect_memory()
            return self._open_database
        if self._open_database is not None and identity_of(self._path) != self._open_file:
            # The file was removed or replaced. SQLite would continue with the one that no longer
            # has a name: whatever is stored there is lost when this process ends.
            self._close()
        if self._open_database is None:
            self._open_database = connect(self._path)
            self._open_file = identity_of(self._path)
        return self._open_database

    def _close(self) -> None:
        if self._open_database is not None:
            database, self._open_database = self._open_database, None
            database.close()

    def _expire(self) -> None:
        if self._path is not None and not self._path.exists():
            return
        database = self._database()
        with transaction(database):
            self.expire_in(database)
