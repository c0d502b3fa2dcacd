"""Stored responses in a SQLite file, accessed from a separate thread.

Responses that build on one another form a conversation, including its branches. A conversation
expires as a whole: its time starts over with each response, and if the file would become too large,
the least recently used conversations are deleted first. So an answer is never built on half of its
history.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from bridge.core.answers.database import (
    connect,
    dumps,
    identity_of,
    loads,
    transaction,
    used_bytes,
)
from bridge.core.answers.store import JsonDict, StoredResponse
from bridge.core.contract import StoreUnavailableError, TooLargeError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DAY: Final = 86_400.0

_CHAIN: Final = """
WITH RECURSIVE chain (id, parent, size, depth) AS (
    SELECT r.id, r.parent, r.size, 0
    FROM responses AS r JOIN conversations AS c ON c.id = r.conversation
    WHERE r.id = ? AND r.caller = ? AND c.used_at > ?
    UNION ALL
    SELECT r.id, r.parent, r.size, c.depth + 1
    FROM chain AS c JOIN responses AS r ON r.id = c.parent
)
SELECT id, parent, size FROM chain ORDER BY depth DESC
"""


class SqliteResponseStore:
    """Stores responses in a file that only its owner can read.

    The file is opened on first use. Reading methods raise StoreUnavailableError if the file cannot
    be read; if it cannot be written, the response is not stored, but the answer is still sent.
    """

    def __init__(
        self,
        path: Path,
        *,
        days: float = 30.0,
        max_bytes: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Store in `path`, for `days` after their last use, in a file of at most `max_bytes`."""
        self._path = path
        self._seconds = days * _DAY
        self._max_bytes = max_bytes
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="responses")
        self._open_database: sqlite3.Connection | None = None
        self._open_file: tuple[int, int] | None = None

    async def expire(self) -> None:
        """Delete expired responses. This also happens whenever a response is stored."""
        with suppress(StoreUnavailableError):
            await self._run(self._expire)

    async def put(self, owner: str, response: StoredResponse) -> bool:
        """Store a response; return whether that was possible."""
        try:
            kept = await self._run(lambda: self._put(owner, response))
        except StoreUnavailableError:
            return False
        except (ValueError, RecursionError):
            logger.exception("a response is not stored: it cannot be written as JSON")
            return False
        if not kept:
            logger.warning("a response is not stored: it is too large, or its history is gone")
        return kept

    async def get(self, owner: str, id: str) -> StoredResponse | None:
        """Return a response, or None if there is none."""
        return await self._run(lambda: self._get(owner, id))

    async def history(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the input and output of a response and all it builds on, oldest first.

        None if any of it is missing. Raises TooLargeError beyond `max_bytes`.
        """
        return await self._run(lambda: self._history(owner, id, max_bytes))

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a response for good; return whether it existed."""
        return await self._run(lambda: self._delete(owner, id))

    async def aclose(self) -> None:
        """Close the file after all pending operations."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    # In the thread

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            # The state of the connection is unknown: the next call opens a new one.
            self._close()
            logger.warning("the stored responses in %s cannot be used: %s", self._path, error)
            raise StoreUnavailableError from error

    def _database(self) -> sqlite3.Connection:
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

    def _put(self, owner: str, response: StoredResponse) -> bool:
        reply = dict(response.reply)
        output = dumps(reply.pop("output"))
        input = dumps(response.input)
        database = self._database()
        with transaction(database) as abandon:
            self._expire_in(database)
            conversation = response.id
            if response.parent is not None:
                row = database.execute(
                    "SELECT conversation FROM responses WHERE id = ? AND caller = ?",
                    (response.parent, owner),
                ).fetchone()
                if row is None:
                    abandon()
                    return False
                (conversation,) = row
            database.execute(
                "INSERT INTO conversations VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at",
                (conversation, owner, self._clock()),
            )
            database.execute(
                "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(response.id, owner, conversation, response.parent),
                    *(len(input) + len(output), input, output, dumps(reply)),
                ),
            )
            if not self._made_room(database, conversation):
                abandon()
                return False
        return True

    def _made_room(self, database: sqlite3.Connection, keep: str) -> bool:
        """Delete conversations until the file is small enough, except `keep`."""
        while used_bytes(database) > self._max_bytes:
            row = database.execute(
                "SELECT id FROM conversations WHERE id <> ? ORDER BY used_at LIMIT 1", (keep,)
            ).fetchone()
            if row is None:
                return False
            database.execute("DELETE FROM conversations WHERE id = ?", row)
        return True

    def _get(self, owner: str, id: str) -> StoredResponse | None:
        row = self._database().execute(
            "SELECT r.parent, r.input, r.output, r.reply FROM responses AS r "
            "JOIN conversations AS c ON c.id = r.conversation "
            "WHERE r.id = ? AND r.caller = ? AND c.used_at > ?",
            (id, owner, self._oldest()),
        ).fetchone()  # fmt: skip
        if row is None:
            return None
        parent, input, output, reply = row
        whole = {**loads(reply), "output": loads(output)}
        return StoredResponse(id, parent, loads(input), whole)

    def _history(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        database = self._database()
        # In one transaction, so that nothing is deleted while it is read.
        with transaction(database, "BEGIN"):
            chain = database.execute(_CHAIN, (id, owner, self._oldest())).fetchall()
            if not chain or chain[0][1] is not None:
                return None
            if sum(size for *_, size in chain) > max_bytes:
                raise TooLargeError(
                    f"The conversation so far has more than {max_bytes} bytes. Start a new one."
                )
            items: list[JsonDict] = []
            for each, *_ in chain:
                (input, output) = database.execute(
                    "SELECT input, output FROM responses WHERE id = ?", (each,)
                ).fetchone()
                items += loads(input)
                items += loads(output)
        return items

    def _delete(self, owner: str, id: str) -> bool:
        database = self._database()
        with transaction(database):
            self._expire_in(database)
            row = database.execute(
                "DELETE FROM responses WHERE id = ? AND caller = ? RETURNING conversation",
                (id, owner),
            ).fetchone()
            if row is None:
                return False
            database.execute(
                "DELETE FROM conversations WHERE id = ? "
                "AND NOT EXISTS (SELECT 1 FROM responses WHERE conversation = ?)",
                (*row, *row),
            )
        # The journal still contains what was deleted.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return True

    def _expire(self) -> None:
        if not self._path.exists():
            return
        database = self._database()
        with transaction(database):
            self._expire_in(database)

    def _expire_in(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM conversations WHERE used_at <= ?", (self._oldest(),))

    def _oldest(self) -> float:
        return self._clock() - self._seconds
