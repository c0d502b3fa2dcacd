from __future__ import annotations

import pytest

from bridge.core.access.keys import expiry_of, seconds_of, shown_time

NOW = 1_800_000_000.5  # 2027-01-15 08:00 UTC


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90d", 7_776_000), ("24h", 86_400), ("5m", 300), ("10s", 10)]
)
def test_a_period(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "-1d", "1", "d", "1w", "1.5h", "9999999d", "٣d"])
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(ValueError, match="24h"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1d", "2027-01-16 08:00 UTC"),
        # A key works on its last day.
        ("2027-01-15", "2027-01-16 00:00 UTC"),
        ("2027-12-31", "2028-01-01 00:00 UTC"),
    ],
)
def test_when_a_key_expires(text: str, shown: str) -> None:
    assert shown_time(expiry_of(text, NOW)) == shown


@pytest.mark.parametrize("text", ["soon", "2027-13-01", "2027-02-30", "9999-12-31", "27-01-31", ""])
def test_what_is_no_expiry(text: str) -> None:
    with pytest.raises(ValueError, match=r"neither a period, such as 90d, nor a date"):
        expiry_of(text, NOW)


@pytest.mark.parametrize("text", ["2027-01-14", "0", "0d"])
def test_the_past_is_no_expiry(text: str) -> None:
    with pytest.raises(ValueError, match=r"not in the future \(bridge keys revoke"):
        expiry_of(text, NOW)
