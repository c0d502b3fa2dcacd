"""The unread lines of an answer. Pure, except that it pauses their source."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from bridge.core.claude.reading import UnseenCalls
from bridge.core.claude.wire import Wire

HIGH_WATER = 2_000
LOW_WATER = 500


class Source(Protocol):
    """Where the lines come from."""

    def pause_reading(self) -> None:
        """Leave the lines in the pipe."""
        ...

    def resume_reading(self) -> None:
        """Read the lines again."""
        ...


class _Reading(Enum):
    CLOSED = auto()
    """Lines belong to no answer and are dropped."""
    OPEN = auto()
    TIMED_OUT = auto()
    """Lines are kept, but the reader gets an error: a time limit was reached."""


class Inbox:
    """Holds what a slow reader has not read, up to a limit; the rest stays in the pipe."""

    def __init__(
        self, source: Source, clock: Callable[[], float], wake: Callable[[], None]
    ) -> None:
        """`wake` makes a waiting reader check again."""
        self._source = source
        self._clock = clock
        self._wake = wake
        self._lines: deque[Wire] = deque()
        self._reading = _Reading.CLOSED
        self.unseen = UnseenCalls()
        """The upstream calls in lines that were dropped since the latest turn was sent."""
        self.paused = False
        """Whether the source is paused."""
        self.opened_at = self.last_line_at = clock()
        """When the latest turn was sent and when the last line arrived."""

    def __len__(self) -> int:
        return len(self._lines)

    def open(self) -> None:
        """Keep lines from now on."""
        self._reading = _Reading.OPEN
        self.unseen = UnseenCalls()
        self.opened_at = self.last_line_at = self._clock()

    def close(self) -> None:
        """Drop unread and later lines."""
        self._reading = _Reading.CLOSED
        while self._lines:
            self.unseen.feed(self._lines.popleft())
        self._resume()

    def time_out(self) -> None:
        """Make `take` raise TimeoutError until the inbox is closed."""
        if self._reading is _Reading.OPEN:
            self._reading = _Reading.TIMED_OUT
            self._wake()

    def put(self, line: Wire) -> None:
        """Add a line; pause the source if too many are unread."""
        self.last_line_at = self._clock()
        if self._reading is _Reading.CLOSED:
            self.unseen.feed(line)
            return
        self._lines.append(line)
        if len(self._lines) > HIGH_WATER and not self.paused:
            self.paused = True
            self._source.pause_reading()

    def take(self) -> Wire | None:
        """Return the next line, or None if there is none yet; raises TimeoutError after
        `time_out`."""
        # The time limit applies even if more lines keep arriving, as with a slow reader.
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
            # What was written meanwhile is read only now.
            self.last_line_at = self._clock()
            self._source.resume_reading()
