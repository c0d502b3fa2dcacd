"""Commands at a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.harness import PATIENCE


class AtTerminal:
    """A command at a pseudo-terminal, with all that it has printed there."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.fd = terminal
        self._seen = ""
        self.output = ""

    def paste(self, text: str) -> None:
        """Paste as a terminal does that was asked to mark what is pasted."""
        os.write(self.fd, f"\x1b[200~{text}\x1b[201~".encode())

    def type(self, line: str) -> None:
        os.write(self.fd, f"{line}\r".encode())

    def wait_for(self, pattern: str) -> str:
        """Wait for output that matches, after what was waited for before."""
        over = time.monotonic() + PATIENCE
        while not (match := re.search(pattern, self._seen)):
            assert time.monotonic() < over, self.output
            assert self._read(), self.output
        self._seen = self._seen[match.end() :]
        return match[0]

    def interrupt_until(self, pattern: str) -> None:
        """Press Ctrl-C until it shows: Python's `input` misses one just before it waits."""
        over = time.monotonic() + PATIENCE
        while not re.search(pattern, self._seen):
            assert time.monotonic() < over, self.output
            self.process.send_signal(signal.SIGINT)
            assert self._read(), self.output
        self.wait_for(pattern)

    def _read(self) -> bool:
        if not select.select([self.fd], [], [], 0.5)[0]:
            return True
        try:
            text = os.read(self.fd, 65536).decode(errors="replace")
        except OSError:
            # How Linux reports the end.
            return False
        self._seen += text
        self.output += text
        return bool(text)

    def end(self) -> int:
        while self._read():
            if self.process.poll() is not None:
                break
        return self.process.wait(PATIENCE)


@contextmanager
def at_terminal(*arguments: str, kind: str = "dumb", **environment: str) -> Iterator[AtTerminal]:
    ours, theirs = pty.openpty()
    # What is typed is not shown, so that all output is the program's.
    attributes = termios.tcgetattr(theirs)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": kind, **environment},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield AtTerminal(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)
        os.close(ours)
