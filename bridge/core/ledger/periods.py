"""The days that a question is about. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAYS: Final = re.compile(r"([1-9][0-9]{0,3})d")


def first_day(text: str, now: float) -> str:
    """Return the first UTC day, as YYYY-MM-DD, of a period that a user wrote.

    `2026-11-01` is that day; `7d` is the last seven days, with today. `now` is in Unix seconds.
    Raises ValueError.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    if match := _DAYS.fullmatch(text):
        return (today - timedelta(int(match[1]) - 1)).isoformat()
    if _DATE.fullmatch(text):
        return date.fromisoformat(text).isoformat()
    raise ValueError(text)
