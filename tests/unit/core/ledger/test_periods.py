from __future__ import annotations

import pytest

from bridge.core.ledger.periods import first_day

NOW = 1_796_000_000.0  # 2026-11-30


@pytest.mark.parametrize(
    ("text", "day"),
    [("2026-11-01", "2026-11-01"), ("1d", "2026-11-30"), ("30d", "2026-11-01")],
)
def test_a_period_starts_with_a_day(text: str, day: str) -> None:
    assert first_day(text, NOW) == day


@pytest.mark.parametrize(
    "text", ["", "yesterday", "0d", "7", "2026-13-01", "20261101", "2026-W45-1", "99999d"]
)
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is not shown
        first_day(text, NOW)
