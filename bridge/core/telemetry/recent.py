"""The latest requests, for the operator of a running server."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from bridge.core.telemetry.request_record import RequestRecord

KEPT: Final = 50


class RecentRequests:
    """Remembers what the session log says of the latest requests, never their words."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lines: deque[dict[str, Any]] = deque(maxlen=kept)

    def began(self, record: RequestRecord) -> None:
        """Nothing yet."""

    def ended(self, record: RequestRecord) -> None:
        """Remember the request. Not the record itself, which holds its messages."""
        self._lines.appendleft(record.metadata())

    def lines(self) -> list[dict[str, Any]]:
        """The latest requests, newest first; see `RequestRecord.metadata`."""
        return list(self._lines)
