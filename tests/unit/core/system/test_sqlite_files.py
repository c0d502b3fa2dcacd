"""Opening the file while another server opens it."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from bridge.core.system import sqlite_files


class Opened:
    """A connection whose file another one has locked for the first few tries."""

    def __init__(self, busy: float, code: int = sqlite3.SQLITE_BUSY) -> None:
        self.busy = busy
        self.code = code

    def execute(self, statement: str) -> Any:
        if self.busy:
            self.busy -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error
        return self

    def fetchall(self) -> list[object]:
        return []


def test_a_lock_that_sqlite_does_not_wait_for_is_waited_for() -> None:
    opened = Opened(busy=2)
    sqlite_files._set(opened, "journal_mode = WAL")  # type: ignore[arg-type]
    assert opened.busy == 0


def test_one_that_stays_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_files, "_BUSY_SECONDS", 0.01)
    with pytest.raises(sqlite3.OperationalError):
        sqlite_files._set(Opened(busy=float("inf")), "journal_mode = WAL")  # type: ignore[arg-type]


def test_any_other_error_is_one_at_once() -> None:
    opened = Opened(busy=2, code=sqlite3.SQLITE_READONLY)
    with pytest.raises(sqlite3.OperationalError):
        sqlite_files._set(opened, "journal_mode = WAL")  # type: ignore[arg-type]
    assert opened.busy == 1
