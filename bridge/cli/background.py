"""Non-blocking output.

The reader of the server's output may stall: a terminal after Ctrl-S, a pager, a hung log
collector. A blocking write would then stall every answer and the shutdown.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress

MAX_WAITING = 1_000
"""Texts that may wait to be written; further ones are dropped."""

CLOSE_SECONDS = 1.0
"""How long `close` waits for the last lines to be written."""


class BackgroundWriter:
    """Writes to a file descriptor from its own thread. Must be closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lost = 0
        self._texts: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        # A daemon: a reader that never reads must not keep the server from ending.
        self._thread = threading.Thread(target=self._work, name=f"print-{fd}", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Queue a text and return at once; it is dropped if the queue is full."""
        try:
            self._texts.put_nowait(text)
        except queue.Full:
            self._lost += 1

    def line(self, text: str) -> None:
        """Queue a line."""
        self.write(f"{text}\n")

    def close(self) -> None:
        """Flush the queue, for at most `CLOSE_SECONDS`. Later writes are dropped."""
        with suppress(queue.Full):
            self._texts.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while (text := self._texts.get()) is not None:
            self._print(text)
            lost, self._lost = self._lost, 0
            if lost:
                self._print(f"({lost} lines dropped: output is not being read)\n")

    def _print(self, text: str) -> None:
        data = text.encode(errors="replace")
        # On a full disk, for example, it is dropped.
        with suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]


class BackgroundHandler(logging.Handler):
    """A logging handler that writes to a `BackgroundWriter`."""

    def __init__(self, writer: BackgroundWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - logging must not raise
            text = f"log record could not be formatted ({record.pathname}:{record.lineno})"
        self._writer.line(text)
