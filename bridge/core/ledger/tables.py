"""The tables of the ledger's file. Slow: call it in a thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import astuple, fields
from pathlib import Path
from typing import Final

from bridge.core.ledger.entries import Dimension, Entry, Totals, UsageRow
from bridge.core.system import open_database, transaction

REQUEST_DAYS: Final = 30
"""How long a single request is kept; its share of the sums is kept for good."""
_DAY: Final = 86_400.0

_SCHEMAS: Final = (
    """
CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    client_id TEXT NOT NULL,
    ended_on REAL NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    payer TEXT NOT NULL,
    billed INTEGER NOT NULL,
    error TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    billed_usd REAL NOT NULL,
    unknown_costs INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX requests_by_end ON requests (ended_on);
CREATE INDEX requests_by_client_id ON requests (client_id) WHERE client_id <> '';
CREATE TABLE usage (
    day TEXT NOT NULL,
    key TEXT NOT NULL,
    model TEXT NOT NULL,
    payer TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    billed_usd REAL NOT NULL,
    unknown_costs INTEGER NOT NULL,
    PRIMARY KEY (day, key, model, payer)
) WITHOUT ROWID;
""",
)
"""What each version of the file adds to the one before."""

_SUMS: Final = tuple(field.name for field in fields(Totals))
_ADD: Final = (
    f"INSERT INTO usage VALUES (?, ?, ?, ?, {', '.join('?' for _ in _SUMS)}) "
    "ON CONFLICT (day, key, model, payer) DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS)
)
_PUT: Final = (
    "INSERT OR REPLACE INTO requests VALUES "
    f"(?, ?, ?, ?, ?, ?, ?, ?, {', '.join('?' for _ in _SUMS)})"
)
_GET: Final = (
    "SELECT id, client_id, ended_on, key, model, payer, billed, error, "
    f"{', '.join(_SUMS)} FROM requests "
    "WHERE (id = ?1 OR client_id = ?1) AND key = coalesce(?2, key) ORDER BY ended_on DESC LIMIT 1"
)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file at `path`; see `open_database`."""
    return open_database(path, _SCHEMAS)


def add(database: sqlite3.Connection, entries: Iterable[Entry], now: float) -> None:
    """Record requests, and delete those that are too old; `now` is in Unix seconds."""
    with transaction(database):
        database.execute("DELETE FROM requests WHERE ended_on < ?", (now - REQUEST_DAYS * _DAY,))
        for entry in entries:
            database.execute(
                _PUT,
                (
                    *(entry.request_id, entry.client_request_id, entry.ended_on, entry.key),
                    *(entry.model, entry.payer, entry.billed, entry.error),
                    *astuple(entry.totals),
                ),
            )
            for model, totals in entry.shares():
                database.execute(_ADD, (entry.day, entry.key, model, entry.payer, *astuple(totals)))


def request(database: sqlite3.Connection, id: str, key: str | None) -> Entry | None:
    """Return a request by the server's or the caller's own id; the latest, if several match.

    `key` is the key that it must belong to; None is any.
    """
    row = database.execute(_GET, (id, key)).fetchone()
    if row is None:
        return None
    server_id, client_id, ended_on, of_key, model, payer, billed, error, *sums = row
    totals = Totals(*sums)
    return Entry(server_id, client_id, ended_on, of_key, model, payer, bool(billed), error, totals)


def rows(
    database: sqlite3.Connection,
    by: Dimension,
    *,
    since: str = "",
    until: str = "9999-12-31",
    key: str | None = None,
) -> list[UsageRow]:
    """Return the sums of the days from `since` to `until`, both included, sorted by name.

    `key` is the key whose requests are summed; None is all.
    """
    sums = ", ".join(f"sum({name})" for name in _SUMS)
    found = database.execute(
        # The dimension is a name of ours.
        f"SELECT {by}, {sums} FROM usage WHERE day BETWEEN ? AND ? AND key = coalesce(?, key) "
        f"GROUP BY {by} ORDER BY {by}",
        (since, until, key),
    )
    return [UsageRow(name, Totals(*totals)) for name, *totals in found]


def read_rows(path: Path, by: Dimension, since: str = "") -> list[UsageRow]:
    """Return the sums in the file at `path`; none if there is no file.

    Raises sqlite3.Error and OSError.
    """
    if not path.exists():
        return []
    with closing(connect(path)) as database:
        return rows(database, by, since=since)
