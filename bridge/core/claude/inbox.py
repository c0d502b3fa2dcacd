"""The lines of an answer that are not read yet. Pure, but for pausing where they come from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from bridge.core.claude.call_usage import UnseenCalls
from bridge.core.claude.wire import Wire

HIGH_WATER = 2_000
LOW_WATER = 500


class Source(Protocol):
    """Where the lines come from."""

    def pause_reading(self) -> None:
        """Let the lines wait in the pipe."""
        ...

    def resume_reading(self) -> None:
        """Take them again."""
        ...


class _Reading(Enum):
    CLOSED = auto()
    """Lines belong to no answer, and are dropped."""
    OPEN = auto()
    TIMED_OUT = auto()
    """Lines are kept, but the reader gets an error: a limit of time was reached."""


class Inbox:
    """Holds what a slow reader has not read, up to a limit; the rest waits in the pipe."""

    def __init__(
        self, source: Source, clock: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        """`wake` lets a reader that waits look again."""
        self._source = source
        self._clock = clock
        self._wake = wake
        self._lines: deque[Wire] = deque()
        self._reading = _Reading.CLOSED
        self.unseen = UnseenCalls()
        """The upstream calls among the lines that were dropped since the latest turn was asked."""
        self.paused = False
        """Whether the source is paused."""
        self.opened_at = self.last_line_at = clock()
        """When the latest turn was asked, and when the last line came."""

    def __len__(self) -> int:
        return len(self._lines)

    def open(self) -> None:
        """Keep the lines from now on."""
        self._reading = _Reading.OPEN
        self.unseen = UnseenCalls()
        self.opened_at = self.last_line_at = self._clock()

    def close(self) -> None:
        """Drop what is unread, and what comes."""
        self._reading = _Reading.CLOSED
        while self._lines:
            self.unseen.feed(self._lines.popleft())
        self._resume()

    def time_out(self) -> None:
        """Let `take` raise TimeoutError, until the inbox is closed."""
        if self._reading is _Reading.OPEN:
            self._reading = _Reading.TIMED_OUT
            self._wake()

    def put(self, line: Wire) -> None:
        """Add a line; the source is paused where too many are unread."""
        self.last_line_at = self._clock()
        if self._reading is _Reading.CLOSED:
            self.unseen.feed(line)
            return
        self._lines.append(line)
        if len(self._lines) > HIGH_WATER and not self.paused:
            self.paused = True
            self._source.pause_reading()

    def take(self) -> Wire | None:
        """The next line, None where there is none yet; raises TimeoutError after `time_out`."""
        # A limit holds although there is always more, as with a slow reader.
        if self._reading is _Reading.TIMED_OUT:
            raise TimeoutError
        if not self._lines:
            return None
        line = self._lines.popleft()
        if self.paused and len(self._lines) <= LOW_WATER:
            self._resume()
        return line

    def _resume(self) -> None:
        if self.paused:
            self.paused = False
            # What was written in the meantime is read only now.
            self.last_line_at = self._clock()
            self._source.resume_reading()
