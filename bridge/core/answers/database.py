"""The SQLite file's tables. Runs in the store's thread."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from bridge.core.system import open_database

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


def connect(path: Path) -> sqlite3.Connection:
    """Open the file at `path`; see `open_database`."""
    return open_database(path, _SCHEMAS)


def connect_memory() -> sqlite3.Connection:
    """Create a database without a file; its content is gone when it is closed."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("PRAGMA foreign_keys = ON")
    for schema in _SCHEMAS:
        database.executescript(schema)
    return database


def used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
