"""The SQLite file: opening it, and its tables. Runs in the store's thread."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bridge.core.contract import BOUNDS
from bridge.core.system import open_private, private_file, private_folder
from bridge.core.validation import NotJsonError, TooNestedError, parse_strict

_BUSY_SECONDS: Final = 5.0
"""How long another server that shares the file may lock it, in seconds."""
_RETRY_SECONDS: Final = 0.02
_JOURNAL_BYTES: Final = 4 * 1024 * 1024

_SCHEMAS: Final = (
    """
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
""",
    """
CREATE TABLE conversation_objects (
    id TEXT PRIMARY KEY REFERENCES conversations (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    metadata TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE conversation_items (
    conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    id TEXT NOT NULL,
    item TEXT NOT NULL,
    PRIMARY KEY (conversation, position)
);
CREATE UNIQUE INDEX conversation_items_by_id ON conversation_items (conversation, id);
""",
)
"""What each version of the file adds to the one before."""

_VERSION: Final = len(_SCHEMAS)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file at `path`, private to its owner, and create its tables if it has none."""
    private_folder(path.parent)
    # SQLite creates its other files with this one's mode; those of a copy may already exist.
    os.close(open_private(path, os.O_RDWR))
    for ending in ("-wal", "-shm"):
        private_file(path.with_name(path.name + ending))
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        # Deleted pages are overwritten and freed. The latter is set in a new file only: it takes a
        # lock, and a reader need not wait for a writer.
        for pragma in (
            *(("auto_vacuum = FULL",) if _version(database) == 0 else ()),
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            "secure_delete = ON",
            f"journal_size_limit = {_JOURNAL_BYTES}",
        ):
            _set(database, pragma)
        if _version(database) < _VERSION:
            with transaction(database):
                for schema in _SCHEMAS[_version(database) :]:
                    for statement in filter(str.strip, schema.split(";")):
                        database.execute(statement)
                database.execute(f"PRAGMA user_version = {_VERSION}")
        if (version := _version(database)) != _VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}, not {_VERSION}: move it away")
    except BaseException:
        database.close()
        raise
    return database


def _set(database: sqlite3.Connection, pragma: str) -> None:
    """Set a pragma, and wait for another server that opens the file at the same time.

    SQLite itself does not wait for the lock that changes the journal's mode.
    """
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            database.execute(f"PRAGMA {pragma}").fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def identity_of(path: Path) -> tuple[int, int] | None:
    """Identify the file that currently has this name; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def transaction(
    database: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE"
) -> Iterator[Callable[[], None]]:
    """Run a transaction; the yielded function rolls it back."""
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


def used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def dumps(value: object) -> str:
    """Serialize a value for storage."""
    return json.dumps(value, separators=(",", ":"))


def loads(text: str) -> Any:
    """Parse a stored value; raises sqlite3.DatabaseError if it is invalid."""
    try:
        # A few more levels than a request may have: a response contains parts of one.
        return parse_strict(text, levels=2 * BOUNDS.json_levels)
    except (NotJsonError, TooNestedError) as error:
        raise sqlite3.DatabaseError("a stored response is not JSON") from error


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
