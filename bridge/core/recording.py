"""The session log: one JSON line a request, for the person who runs the server.

By default it holds no word of any prompt or answer. A log that cannot be written costs lines,
never an answer.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.core.events import Event, Finished, Started, TextDelta
from bridge.core.model import CompletionRequest
from bridge.core.private import open_private, private_folder

logger = logging.getLogger(__name__)


class SessionLog:
    """Appends records to a file that only its owner can read."""

    def __init__(self, path: Path | None) -> None:
        """Write to `path`; None keeps no log."""
        self._path = path
        self._fd: int | None = None
        self._complained = False
        self._closed = False

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        if self._path is None or self._closed:
            return
        try:
            if self._fd is None:
                private_folder(self._path.parent)
                self._fd = open_private(self._path, os.O_WRONLY | os.O_APPEND)
            # ASCII alone: Unicode has other ends of lines, which a caller may have put into a name.
            # And one write a record, so that several servers can share the file.
            os.write(self._fd, json.dumps(record).encode() + b"\n")
            self._complained = False
        except OSError as error:
            if not self._complained:
                self._complained = True
                logger.warning("the session log %s cannot be written: %s", self._path, error)

    def close(self) -> None:
        """Close the file; what comes later is not written."""
        self._closed = True
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class RequestRecord:
    """What the session log says of one request."""

    def __init__(self, request: CompletionRequest, started_at: float, *, bodies: bool) -> None:
        self._request = request
        self._bodies = bodies
        self._started_at = started_at
        self._first_at: float | None = None
        self._model = ""
        self._finished: Finished | None = None
        self._text: list[str] = []
        self.leased_at: float | None = None
        self.got = ""
        self.error = ""

    @property
    def finish(self) -> bool:
        """Whether the answer was complete."""
        return self._finished is not None

    def see(self, event: Event, at: float) -> None:
        """Note an event of the answer."""
        if isinstance(event, TextDelta):
            if self._bodies:
                self._text.append(event.text)
        elif isinstance(event, Started):
            self._model = event.model
            return
        elif isinstance(event, Finished):
            self._finished = event
            return
        if self._first_at is None:
            self._first_at = at

    def line(self, at: float, now: float) -> dict[str, Any]:
        """The record; times in milliseconds."""

        def since(moment: float | None) -> int | None:
            return None if moment is None else round((moment - self._started_at) * 1000)

        request = self._request
        usage = self._finished.usage if self._finished else None
        record: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "request_id": request.request_id,
            "door": request.door,
            "key": request.caller,
            "model_asked": request.model,
            "model": self._model or None,
            "session": self.got or None,
            "queue_ms": since(self.leased_at),
            "first_token_ms": since(self._first_at),
            "total_ms": since(at),
            "finish": self._finished.reason if self._finished else None,
            "error": self.error or None,
            "input_tokens": usage.input_tokens if usage else None,
            "cache_read_tokens": usage.cache_read_tokens if usage else None,
            "cache_write_tokens": usage.cache_write_tokens if usage else None,
            "output_tokens": usage.output_tokens if usage else None,
        }
        if self._bodies:
            record["system"] = request.system
            record["messages"] = [dataclasses.asdict(message) for message in request.messages]
            record["answer"] = "".join(self._text)
        return record
