"""Stored responses in a SQLite file or in memory, accessed from a separate thread.

Responses that build on one another form a conversation, including its branches. A conversation
expires as a whole: its time starts over with each response, and if the file would become too large,
the least recently used conversations are deleted first. So an answer is never built on half of its
history.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from bridge.core.answers.conversations import SqliteConversationStore
from bridge.core.answers.file import SqliteFile
from bridge.core.answers.store import JsonDict, StoredResponse
from bridge.core.answers.texts import dumps, loads
from bridge.core.contract import StoreUnavailableError, TooLargeError
from bridge.core.system import transaction

logger = logging.getLogger(__name__)

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
        path: Path | None,
        *,
        days: float = 30.0,
        max_bytes: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Store in `path`, for `days` after their last use, in a file of at most `max_bytes`.

        Without a path, store in memory.
        """
        self._file = SqliteFile(path, days=days, max_bytes=max_bytes, clock=clock)
        self.conversations = SqliteConversationStore(self._file)

    async def expire(self) -> None:
        """Delete expired responses. This also happens whenever a response is stored."""
        with suppress(StoreUnavailableError):
            await self._file.expire()

    async def put(self, owner: str, response: StoredResponse) -> bool:
        """Store a response, or replace it; return whether that was possible."""
        try:
            kept = await self._file.run(lambda database: self._put(database, owner, response))
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
        return await self._file.run(lambda database: self._get(database, owner, id))

    async def history(self, owner: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the input and output of a response and all it builds on, oldest first.

        None if any of it is missing. Raises TooLargeError beyond `max_bytes`.
        """
        return await self._file.run(lambda database: self._history(database, owner, id, max_bytes))

    async def delete(self, owner: str, id: str) -> bool:
        """Delete a response for good; return whether it existed."""
        return await self._file.run(lambda database: self._delete(database, owner, id))

    async def aclose(self) -> None:
        """Close the file after all pending operations."""
        await self._file.aclose()

    # In the thread

    def _put(self, database: sqlite3.Connection, owner: str, response: StoredResponse) -> bool:
        reply = dict(response.reply)
        output = dumps(reply.pop("output"))
        input = dumps(response.input)
        with transaction(database) as abandon:
            self._file.expire_in(database)
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
            self._file.used(database, conversation, owner)
            written = database.execute(
                "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
                "SET size = excluded.size, input = excluded.input, output = excluded.output, "
                "reply = excluded.reply WHERE caller = excluded.caller",
                (
                    *(response.id, owner, conversation, response.parent),
                    *(len(input) + len(output), input, output, dumps(reply)),
                ),
            )
            # None if it is another owner's.
            if not (written.rowcount and self._file.made_room(database, conversation)):
                abandon()
                return False
        return True

    def _get(self, database: sqlite3.Connection, owner: str, id: str) -> StoredResponse | None:
        row = database.execute(
            "SELECT r.parent, r.input, r.output, r.reply FROM responses AS r "
            "JOIN conversations AS c ON c.id = r.conversation "
            "WHERE r.id = ? AND r.caller = ? AND c.used_at > ?",
            (id, owner, self._file.oldest),
        ).fetchone()  # fmt: skip
        if row is None:
            return None
        parent, input, output, reply = row
        whole = {**loads(reply), "output": loads(output)}
        return StoredResponse(id, parent, loads(input), whole)

    def _history(
        self, database: sqlite3.Connection, owner: str, id: str, max_bytes: int
    ) -> list[JsonDict] | None:
        # In one transaction, so that nothing is deleted while it is read.
        with transaction(database, "BEGIN"):
            chain = database.execute(_CHAIN, (id, owner, self._file.oldest)).fetchall()
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

    def _delete(self, database: sqlite3.Connection, owner: str, id: str) -> bool:
        with transaction(database):
            self._file.expire_in(database)
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
