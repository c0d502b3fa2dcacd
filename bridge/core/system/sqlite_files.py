"""Opens SQLite files that only their owner can read. Slow: call it in a thread."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bridge.core.system.private_files import open_private, private_file, private_folder

_BUSY_SECONDS: Final = 5.0
"""How long another server that shares the file may lock it, in seconds."""
_RETRY_SECONDS: Final = 0.02
_JOURNAL_BYTES: Final = 4 * 1024 * 1024


def open_database(path: Path, schemas: Sequence[str]) -> sqlite3.Connection:
    """Open the file at `path`, private to its owner, and create its tables if it has none.

    `schemas` are what each version of the file adds to the one before. Raises sqlite3.Error and
    OSError.
    """
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
        if _version(database) < len(schemas):
            with transaction(database):
                for schema in schemas[_version(database) :]:
                    for statement in filter(str.strip, schema.split(";")):
                        database.execute(statement)
                database.execute(f"PRAGMA user_version = {len(schemas)}")
        if (version := _version(database)) != len(schemas):
            raise sqlite3.DatabaseError(
                f"its version is {version}, not {len(schemas)}: move it away"
            )
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


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])
