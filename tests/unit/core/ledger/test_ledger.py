"""The ledger's file: what is recorded, who sees it, and what a broken disk does."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from bridge.core.contract import (
    CompletionRequest,
    Cost,
    SessionSource,
    Started,
    UnavailableError,
    Usage,
)
from bridge.core.ledger import LEDGER_FILE, Dimension, Ledger, read_rows, tables
from bridge.core.ledger.tables import REQUEST_DAYS
from bridge.core.telemetry import RequestRecord
from tests.support.waiting import soon

DAY = 86_400.0
NOW = 20_000 * DAY


def record(
    id: str, caller: str = "", usd: float = 0.5, *, days_ago: float = 0.0, client_id: str = ""
) -> RequestRecord:
    request = CompletionRequest((), request_id=id, caller=caller, client_request_id=client_id)
    made = RequestRecord(request, 0.0)
    made.leased(SessionSource.WARM, 0.0)
    made.see(Started("opus-9"), 0.0)
    made.ended(1.0, NOW - days_ago * DAY)
    made.spent, made.cost = Usage(10, 20, 30, 40), Cost(usd, {"opus-9": usd})
    return made


def put(ledger: Ledger, *records: RequestRecord) -> None:
    for each in records:
        ledger.began(each)
        ledger.ended(each)
        ledger.booked(each)


def block(path: Path) -> None:
    """Let the file be one that cannot be opened."""
    path.mkdir(parents=True)


def unblock(path: Path) -> None:
    path.rmdir()


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / LEDGER_FILE


async def test_sums_are_kept_by_each_dimension_and_survive_a_restart(path: Path) -> None:
    ledger = Ledger(path, now=lambda: NOW)
    put(ledger, record("1", "a", 1.0, days_ago=1), record("2", "a", 2.0), record("3", "b", 4.0))
    await ledger.aclose()
    assert mode_of(path) == 0o600
    ledger = Ledger(path, now=lambda: NOW)
    put(ledger, record("4", "b", 8.0))
    by_key = {row.name: row.totals for row in await ledger.usage(Dimension.KEY)}
    assert {name: (t.requests, t.cost_usd) for name, t in by_key.items()} == {
        "a": (2, 3.0),
        "b": (2, 12.0),
    }
    assert by_key["a"].input_tokens == 20
    assert [row.name for row in await ledger.usage(Dimension.DAY)] == ["2024-10-03", "2024-10-04"]
    assert [row.name for row in await ledger.usage(Dimension.MODEL)] == ["opus-9"]
    (today,) = await ledger.usage(Dimension.PAYER, since="2024-10-04")
    assert (today.name, today.totals.cost_usd) == ("default", 14.0)
    (before,) = await ledger.usage(Dimension.DAY, until="2024-10-03")
    assert before.totals.requests == 1
    (own,) = await ledger.usage(Dimension.KEY, key="b")
    assert own.totals.requests == 2
    await ledger.aclose()
    assert sum(row.totals.cost_usd for row in read_rows(path, Dimension.KEY)) == 15.0


async def test_a_request_is_found_by_either_id_and_only_for_its_own_key(path: Path) -> None:
    ledger = Ledger(path, now=lambda: NOW)
    put(ledger, record("1", "a", client_id="mine"), record("2", "b", 2.0, client_id="mine"))
    found = await ledger.request("1")
    assert found is not None
    assert (found.key, found.cost_usd, found.totals.output_tokens) == ("a", 0.5, 40)
    assert await ledger.request("1", key="b") is None
    own = await ledger.request("mine", key="a")
    assert own is not None
    assert own.request_id == "1"
    assert await ledger.request("3") is None
    await ledger.aclose()


async def test_a_question_about_a_request_waits_for_its_cost(path: Path) -> None:
    ledger = Ledger(path, now=lambda: NOW)
    one = record("1", "a")
    ledger.ended(one)
    asked = asyncio.ensure_future(ledger.request("1", key="a"))
    assert await ledger.request("1", key="b") is None
    assert not asked.done()
    ledger.booked(one)
    found = await soon(asked)
    assert found is not None
    await ledger.aclose()


async def test_a_request_that_got_no_process_is_not_recorded(path: Path) -> None:
    ledger = Ledger(path, now=lambda: NOW)
    refused = RequestRecord(CompletionRequest((), request_id="1"), 0.0)
    put(ledger, refused)
    assert await ledger.usage(Dimension.KEY) == []
    await ledger.aclose()


async def test_single_requests_are_deleted_after_a_month_and_their_sums_are_not(
    path: Path,
) -> None:
    ledger = Ledger(path, now=lambda: NOW)
    put(ledger, record("old", days_ago=REQUEST_DAYS + 1))
    assert await ledger.request("old") is not None
    put(ledger, record("new"))
    assert await ledger.request("old") is None
    assert [row.totals.requests for row in await ledger.usage(Dimension.KEY)] == [2]
    await ledger.aclose()


async def test_what_cannot_be_written_is_written_later(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    block(path)
    ledger = Ledger(path, now=lambda: NOW)
    put(ledger, record("1"), record("2"))
    with pytest.raises(UnavailableError):
        await ledger.usage(Dimension.KEY)
    assert caplog.text.count("cannot be used") == 1
    unblock(path)
    put(ledger, record("3"))
    assert [row.totals.requests for row in await ledger.usage(Dimension.KEY)] == [3]
    await ledger.aclose()


async def test_a_locked_file_is_waited_for_off_the_loop(path: Path) -> None:
    ledger = Ledger(path, now=lambda: NOW)
    put(ledger, record("1"))
    await ledger.usage(Dimension.KEY)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    put(ledger, record("2"))
    asked = asyncio.ensure_future(ledger.usage(Dimension.KEY))
    other.execute("ROLLBACK")
    other.close()
    (row,) = await soon(asked)
    assert row.totals.requests == 2
    await ledger.aclose()


async def test_a_file_that_cannot_be_written_is_tried_once_for_all_that_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []
    may_fail = threading.Event()

    def connect(path: Path) -> sqlite3.Connection:
        tried.append(path)
        may_fail.wait(60)
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(tables, "connect", connect)
    ledger = Ledger(path, now=lambda: NOW)
    put(ledger, *(record(str(number)) for number in range(50)))
    may_fail.set()
    # A stop waits for what is due.
    await ledger.aclose()
    assert len(tried) <= 3


async def test_of_those_that_wait_the_oldest_are_lost_beyond_a_limit(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    block(path)
    ledger = Ledger(path, now=lambda: NOW, max_waiting=2)
    put(ledger, *(record(str(number)) for number in range(4)))
    with pytest.raises(UnavailableError):
        await ledger.usage(Dimension.KEY)
    unblock(path)
    assert [row.totals.requests for row in await ledger.usage(Dimension.KEY)] == [2]
    assert await ledger.request("3") is not None
    await ledger.aclose()
