"""The figures of docs/scaling.md follow from its formulas."""

from __future__ import annotations

import math
import re
from typing import Final

import pytest

from tests.support.paths import ROOT

PAGE: Final = (ROOT / "docs" / "scaling.md").read_text()
_ROW: Final = re.compile(
    r"^\| ([\d,]+) \| (\d+) requests[^|]*\| ([\d.]+) \| (\d+) \| (\d+) \| ([\d.]+) GB \|$",
    re.MULTILINE,
)
ROWS: Final = [tuple(float(cell.replace(",", "")) for cell in row) for row in _ROW.findall(PAGE)]

SECONDS: Final = 15
SHARE: Final = 0.05
"""Of the requests that may wait."""
REPLICA: Final = 32
MEGABYTES: Final = 150
"""Of a process, and of a server."""
SPARE: Final = 3
"""Processes of a replica beyond its turns, by default."""


def waiting(turns: int, load: float) -> float:
    """Return the share of requests that wait (Erlang's C formula)."""
    blocked = 1.0
    for n in range(1, turns + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked / (1 - load / turns * (1 - blocked))


def needed(load: float) -> int:
    """Return the least number of turns with which few enough requests wait."""
    turns = math.floor(load) + 1
    while waiting(turns, load) > SHARE:
        turns += 1
    return turns


@pytest.mark.parametrize(
    ("turns", "load", "share"),
    # With one server the share that waits is the load; the last is a textbook's.
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (10, 7.0, 0.2217)],
)
def test_the_formula_is_erlangs(turns: int, load: float, share: float) -> None:
    assert waiting(turns, load) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_row_follows_from_its_users(row: tuple[float, ...]) -> None:
    users, requests, in_use, turns, replicas, memory = row
    load = users * requests * SECONDS / 3600
    assert round(load, 1) == in_use
    assert needed(load) == turns
    assert math.ceil(turns / REPLICA) == replicas
    processes = turns + SPARE * replicas
    assert round((processes + replicas) * MEGABYTES / 1000, 1) == memory


def test_the_table_is_there() -> None:
    assert {row[0] for row in ROWS} == {10, 100, 1000}
    assert len(ROWS) == 6


def test_the_sentences_follow_from_the_formulas() -> None:
    one, three = needed(50), 3 * needed(50 / 3)
    assert f"need {one} turns in one pool, but {three} in three" in PAGE.replace("\n", " ")
    tokens = 83 * 50 * 3600 / 1e6
    assert f"{tokens:.0f} million output tokens an hour" in PAGE.replace("\n", " ")
