"""What SIGHUP means: the terminal has closed, or the operator asks for a reload."""

from __future__ import annotations

import os
import signal
import termios
from contextlib import suppress
from types import TracebackType
from typing import Self


class Terminal:
    """The controlling terminal, unless the server is meant to outlive it. A context manager."""

    def __init__(self) -> None:
        self._fd = -1
        # SIGHUP ignored at the start (nohup): the server is meant to outlive the terminal.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            # A service has no terminal.
            with suppress(OSError):
                self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    @property
    def gone(self) -> bool:
        """Whether there was a terminal and it has hung up."""
        if self._fd < 0:
            return False
        try:
            termios.tcgetattr(self._fd)
        except termios.error:
            return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
