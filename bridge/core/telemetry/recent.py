"""The latest requests, for the operator of a running server."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from bridge.core.telemetry.request_record import RequestRecord

KEPT: Final = 50


class RecentRequests:
    """Keeps the session log's metadata of the latest requests, and their labels; no content."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lines: deque[dict[str, Any]] = deque(maxlen=kept)
        self._unbooked: dict[int, dict[str, Any]] = {}
        """By the identity of the record, which lives until it is booked."""

    def began(self, record: RequestRecord) -> None:
        """Do nothing: only finished requests are kept."""

    def ended(self, record: RequestRecord) -> None:
        """Keep the request's metadata, but not the record, which has its messages."""
        metadata, labels = record.metadata(), record.labels or None
        line = {**metadata, "cost_usd": None, "labels": labels}
        self._unbooked[id(record)] = line
        self._lines.appendleft(line)

    def booked(self, record: RequestRecord) -> None:
        """Add the cost."""
        self._unbooked.pop(id(record))["cost_usd"] = record.cost.rounded_usd

    def lines(self) -> list[dict[str, Any]]:
        """Return the latest requests, newest first: `RequestRecord.metadata`, and `labels`."""
        return list(self._lines)
