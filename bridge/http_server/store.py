"""Where responses are kept: a file of SQLite, beside the event loop in a thread of its own.

Responses that build on one another are a conversation, whichever way it branches, and a
conversation lives and goes as a whole: its time begins anew with each response, and when the
file would become too large, those go first that were used longest ago. So no answer is ever
built on half of its past. What belongs to one key is not there for another.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from bridge.core.contract import TooLargeError
from bridge.core.system import open_private, private_file, private_folder
from bridge.http_server.body import parse_json
from bridge.http_server.errors import StoreUnavailableError
from bridge.http_server.openai.shared.replies import JsonDict

logger = logging.getLogger(__name__)

T = TypeVar("T")

_VERSION: Final = 1
_DAY: Final = 86_400.0
_BUSY_SECONDS: Final = 5.0
"""How long another server that shares the file may hold it."""
_JOURNAL_BYTES: Final = 4 * 1024 * 1024

_SCHEMA: Final = """
CREATE TABLE conversations (
    id TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    used_at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX conversations_by_use ON conversations (used_at);
CREATE TABLE responses (
    id TEXT PRIMARY KEY,
    caller TEXT NOT NULL,
    conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent TEXT,
    size INTEGER NOT NULL,
    input TEXT NOT NULL,
    output TEXT NOT NULL,
    reply TEXT NOT NULL
);
CREATE INDEX responses_by_conversation ON responses (conversation);
"""

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


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """A response as it is kept."""

    id: str
    parent: str | None
    """The response that it builds on."""
    input: Sequence[JsonDict]
    """Its own items, without those of its past."""
    reply: JsonDict
    """The response object, with its output."""


class ResponseStore:
    """Keeps responses in a file that only its owner can read.

    Opened when it is first needed. Those that read raise StoreUnavailableError where the file
    cannot be read; one that cannot be written costs the keeping, never an answer.
    """

    def __init__(
        self,
        path: Path,
        *,
        days: float = 30.0,
        max_bytes: int = 256 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep in `path`, `days` after their last use, in a file of at most `max_bytes`."""
        self._path = path
        self._seconds = days * _DAY
        self._max_bytes = max_bytes
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="responses")
        self._open_database: sqlite3.Connection | None = None
        self._open_file: tuple[int, int] | None = None

    async def expire(self) -> None:
        """Delete what is older than it may be. The same happens whenever something is kept."""
        with suppress(StoreUnavailableError):
            await self._run(self._expire)

    async def put(self, caller: str, response: KeptResponse) -> bool:
        """Keep a response; says whether that was possible."""
        try:
            kept = await self._run(lambda: self._put(caller, response))
        except StoreUnavailableError:
            return False
        except (ValueError, RecursionError):
            logger.exception("a response is not kept: it cannot be written as JSON")
            return False
        if not kept:
            logger.warning("a response is not kept: it is too large, or its past is gone")
        return kept

    async def get(self, caller: str, id: str) -> KeptResponse | None:
        """Return a response, or None if there is none."""
        return await self._run(lambda: self._get(caller, id))

    async def history(self, caller: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        """Return the input and output of a response and all it builds on, oldest first.

        None if any of it is not there. Raises TooLargeError beyond `max_bytes`.
        """
        return await self._run(lambda: self._history(caller, id, max_bytes))

    async def delete(self, caller: str, id: str) -> bool:
        """Delete a response, for good; says whether there was one."""
        return await self._run(lambda: self._delete(caller, id))

    async def aclose(self) -> None:
        """Close the file, after all that was asked for."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    # In the thread

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            # What state the connection is in is not known: the next call makes a new one.
            self._close()
            logger.warning("the responses in %s cannot be used: %s", self._path, error)
            raise StoreUnavailableError from error

    def _database(self) -> sqlite3.Connection:
        if self._open_database is not None and self._file() != self._open_file:
            # Somebody removed the file, or put another in its place. SQLite would go on with the
            # one that has no name any more: what is kept there ends with this process.
            self._close()
        if self._open_database is None:
            self._open_database = self._connect()
            self._open_file = self._file()
        return self._open_database

    def _file(self) -> tuple[int, int] | None:
        """Tell the file that has the name now from any other."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _connect(self) -> sqlite3.Connection:
        private_folder(self._path.parent)
        # SQLite gives its other files the mode of this one; those of a copy may be there already.
        os.close(open_private(self._path, os.O_RDWR))
        for ending in ("-wal", "-shm"):
            private_file(self._path.with_name(self._path.name + ending))
        database = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            # Deleted pages are overwritten, and given back. The latter is set in a new file only:
            # it takes a lock, and reading need not wait for who is writing.
            for pragma in (
                *(("auto_vacuum = FULL",) if _version(database) == 0 else ()),
                "journal_mode = WAL",
                "synchronous = NORMAL",
                "foreign_keys = ON",
                "secure_delete = ON",
                f"journal_size_limit = {_JOURNAL_BYTES}",
            ):
                database.execute(f"PRAGMA {pragma}").fetchall()
            if _version(database) == 0:
                with _transaction(database):
                    if _version(database) == 0:
                        for statement in filter(str.strip, _SCHEMA.split(";")):
                            database.execute(statement)
                        database.execute(f"PRAGMA user_version = {_VERSION}")
            if (version := _version(database)) != _VERSION:
                raise sqlite3.DatabaseError(
                    f"it is of version {version}, not {_VERSION}: move it away"
                )
        except BaseException:
            database.close()
            raise
        return database

    def _close(self) -> None:
        if self._open_database is not None:
            database, self._open_database = self._open_database, None
            database.close()

    def _put(self, caller: str, response: KeptResponse) -> bool:
        reply = dict(response.reply)
        output = _dumps(reply.pop("output"))
        input = _dumps(response.input)
        database = self._database()
        with _transaction(database) as abandon:
            self._expire_in(database)
            conversation = response.id
            if response.parent is not None:
                row = database.execute(
                    "SELECT conversation FROM responses WHERE id = ? AND caller = ?",
                    (response.parent, caller),
                ).fetchone()
                if row is None:
                    abandon()
                    return False
                (conversation,) = row
            database.execute(
                "INSERT INTO conversations VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at",
                (conversation, caller, self._clock()),
            )
            database.execute(
                "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(response.id, caller, conversation, response.parent),
                    *(len(input) + len(output), input, output, _dumps(reply)),
                ),
            )
            if not self._made_room(database, conversation):
                abandon()
                return False
        return True

    def _made_room(self, database: sqlite3.Connection, keep: str) -> bool:
        """Delete conversations until the file is small enough; `keep` stays."""
        while _used_bytes(database) > self._max_bytes:
            row = database.execute(
                "SELECT id FROM conversations WHERE id <> ? ORDER BY used_at LIMIT 1", (keep,)
            ).fetchone()
            if row is None:
                return False
            database.execute("DELETE FROM conversations WHERE id = ?", row)
        return True

    def _get(self, caller: str, id: str) -> KeptResponse | None:
        row = self._database().execute(
            "SELECT r.parent, r.input, r.output, r.reply FROM responses AS r "
            "JOIN conversations AS c ON c.id = r.conversation "
            "WHERE r.id = ? AND r.caller = ? AND c.used_at > ?",
            (id, caller, self._oldest()),
        ).fetchone()  # fmt: skip
        if row is None:
            return None
        parent, input, output, reply = row
        whole = {**_loads(reply), "output": _loads(output)}
        return KeptResponse(id, parent, _loads(input), whole)

    def _history(self, caller: str, id: str, max_bytes: int) -> list[JsonDict] | None:
        database = self._database()
        # In one transaction, so that nothing goes while it is read.
        with _transaction(database, "BEGIN"):
            chain = database.execute(_CHAIN, (id, caller, self._oldest())).fetchall()
            if not chain or chain[0][1] is not None:
                return None
            if sum(size for *_, size in chain) > max_bytes:
                raise TooLargeError(
                    f"The conversation before has more than {max_bytes} bytes. Begin a new one.",
                    field="previous_response_id",
                )
            items: list[JsonDict] = []
            for each, *_ in chain:
                (input, output) = database.execute(
                    "SELECT input, output FROM responses WHERE id = ?", (each,)
                ).fetchone()
                items += _loads(input)
                items += _loads(output)
        return items

    def _delete(self, caller: str, id: str) -> bool:
        database = self._database()
        with _transaction(database):
            self._expire_in(database)
            row = database.execute(
                "DELETE FROM responses WHERE id = ? AND caller = ? RETURNING conversation",
                (id, caller),
            ).fetchone()
            if row is None:
                return False
            database.execute(
                "DELETE FROM conversations WHERE id = ? "
                "AND NOT EXISTS (SELECT 1 FROM responses WHERE conversation = ?)",
                (*row, *row),
            )
        # The journal still holds what was deleted.
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return True

    def _expire(self) -> None:
        if not self._path.exists():
            return
        database = self._database()
        with _transaction(database):
            self._expire_in(database)

    def _expire_in(self, database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM conversations WHERE used_at <= ?", (self._oldest(),))

    def _oldest(self) -> float:
        return self._clock() - self._seconds


@contextmanager
def _transaction(
    database: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE"
) -> Iterator[Callable[[], None]]:
    """Do all of it or nothing; the function given does nothing of it after all."""
    abandoned = False

    def abandon() -> None:
        nonlocal abandoned
        abandoned = True

    database.execute(begin)
    try:
        yield abandon
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    database.execute("ROLLBACK" if abandoned else "COMMIT")


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _loads(text: str) -> Any:
    return parse_json(text.encode())
