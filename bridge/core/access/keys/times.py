"""Periods and dates as users write and read them. Pure."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_PERIOD: Final = re.compile(r"([0-9]{1,6})([dhms])")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def seconds_of(text: str) -> int:
    """Parse a period, such as 24h, 90d or 0. Raises ValueError."""
    if text == "0":
        return 0
    match = _PERIOD.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a period, such as 24h, 90d or 0")
    return int(match[1]) * _UNITS[match[2]]


def expiry_of(text: str, now: float) -> int:
    """Parse when a key expires: a period from `now` on, or a UTC day, to its end.

    Returns Unix seconds, as `now` is. Raises ValueError.
    """
    try:
        if _DATE.fullmatch(text):
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
            at = int((day + timedelta(days=1)).timestamp())
        else:
            at = int(now) + seconds_of(text)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither a period, such as 90d, nor a date, such as 2027-01-31"
        ) from None
    if at <= now:
        raise ValueError(f"{text!r} is not in the future (bridge keys revoke ends a key)")
    return at


def shown_time(at: float) -> str:
    """Return a time, in Unix seconds, as a user reads it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
