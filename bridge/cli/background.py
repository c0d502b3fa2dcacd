"""Printing that nothing waits for.

Whoever reads what a server prints may stop doing so: a terminal after Ctrl-S, a pager, a collector
of logs that hangs. A write that waits for them would hold up every answer, and the end.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress

MAX_WAITING = 1_000
"""Texts that wait to be taken; what comes beyond them is lost."""

CLOSE_SECONDS = 1.0
"""How long the end waits for the last lines to be taken."""


class BackgroundWriter:
    """Prints from a thread of its own. Whoever makes one must `close` it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lost = 0
        self._texts: queue.Queue[str | None] = queue.Queue(MAX_WAITING)
        # A daemon: a reader that never reads must not keep the server from ending.
        self._thread = threading.Thread(target=self._work, name=f"print-{fd}", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Print a text. Returns at once; where nobody takes it, it is lost."""
        try:
            self._texts.put_nowait(text)
        except queue.Full:
            self._lost += 1

    def line(self, text: str) -> None:
        """Print a line, in the same way."""
        self.write(f"{text}\n")

    def close(self) -> None:
        """Print what waits, if it is taken soon; what comes later is not printed."""
        with suppress(queue.Full):
            self._texts.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while (text := self._texts.get()) is not None:
            self._print(text)
            lost, self._lost = self._lost, 0
            if lost:
                self._print(f"({lost} lines were lost: nobody took them)\n")

    def _print(self, text: str) -> None:
        data = text.encode(errors="replace")
        # On a full disk, for one, it is lost.
        with suppress(OSError):
            while data:
                data = data[os.write(self._fd, data) :]


class BackgroundHandler(logging.Handler):
    """Logs to a `BackgroundWriter`."""

    def __init__(self, writer: BackgroundWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - whoever logs must not fail for it
            text = f"a line of the log could not be made, at {record.pathname}:{record.lineno}"
        self._writer.line(text)
