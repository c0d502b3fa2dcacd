"""Ensures that no process outlives the server, even if the server is killed.

Two mechanisms, since each has a gap that the other covers. A death signal (Linux): the kernel kills
a process at once when the thread that started it ends, but not that process's children. And a
watchdog, on every system: a small program that detects the server's death by the end of a pipe, and
kills the processes it was given. An idle CLI ends by itself when its input does; one in the middle
of a turn would continue it at the account's cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from typing import Self

from bridge.core.system import orphan_watchdog

logger = logging.getLogger(__name__)

REVIVE_SECONDS = 1.0
"""Seconds until a watchdog that was killed is replaced."""

_TRIAL_SECONDS = 10.0
_END_SECONDS = 10.0

# For a Linux without util-linux's setpriv. 1 is PR_SET_PDEATHSIG, 9 is SIGKILL. A parent that ended
# before that was set sends no signal any more. Not as `preexec_fn`: that runs Python in a forked
# copy of a program with threads.
_BY_HAND = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(1, 9) or os.getppid() != int(sys.argv[1]): os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def death_signal() -> Sequence[str]:
    """Return the prefix of a command that makes the kernel kill it when its parent ends.

    The prefix execs the command, which keeps its pid. Empty if the system has no such feature.
    Tries it out, which takes some milliseconds.
    """
    if sys.platform != "linux":
        return ()
    tried: list[tuple[Sequence[str], Sequence[str]]] = []
    if (setpriv := shutil.which("setpriv")) is not None:
        # Only an exec: 1 ms. The setpriv of busybox lacks the option.
        tried.append(((setpriv, "--pdeathsig", "KILL", "--"), (setpriv, "--version")))
    python = (sys.executable, "-I", "-S", "-c")
    tried.append(((*python, _BY_HAND, str(os.getpid())), (*python, "")))
    return next((prefix for prefix, harmless in tried if _works((*prefix, *harmless))), ())


def _works(argv: Sequence[str]) -> bool:
    try:
        tried = subprocess.run(argv, capture_output=True, timeout=_TRIAL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


class OrphanGuard:
    """Guards the processes of one server. Use as an async context manager."""

    def __init__(self) -> None:
        self.prefix: Sequence[str] = ()
        """The prefix of each command."""
        self._watched: dict[int, str] = {}
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._send_fd = -1
        self._end_fd = -1
        self._revival: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self.prefix = await asyncio.to_thread(death_signal)
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._revival is not None:
            self._revival.cancel()
        watchdog = self._watchdog
        self._release()
        if watchdog is not None:
            # It now kills whatever is still watched.
            await asyncio.to_thread(_wait, watchdog)

    @property
    def watchdog_pid(self) -> int | None:
        """The process id of the watchdog, or None."""
        return None if self._watchdog is None else self._watchdog.pid

    def new_mark(self) -> str:
        """Return the value of `orphan_watchdog.MARK` for the environment of a new process."""
        return uuid.uuid4().hex

    def began(self, pid: int, mark: str) -> None:
        """Watch a process that leads a process group of its own."""
        self._watched[pid] = mark
        self._send(f"+{pid} {mark}\n")

    def ended(self, pid: int) -> None:
        """Stop watching a process; its remaining children are killed."""
        if self._watched.pop(pid, None) is not None:
            self._send(f"-{pid}\n")

    def _start(self) -> None:
        self._revival = None
        received, self._send_fd = os.pipe()
        self._end_fd, end = os.pipe()
        try:
            self._watchdog = subprocess.Popen(
                (sys.executable, "-I", "-S", orphan_watchdog.__file__),
                stdin=received,
                # Nothing is written to it: its end is that of the watchdog.
                stdout=end,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            logger.warning("processes are not watched: %s", error)
            self._release()
            return
        finally:
            os.close(received)
            os.close(end)
        # A line is never split: it is shorter than what a pipe accepts at once.
        os.set_blocking(self._send_fd, False)
        asyncio.get_running_loop().add_reader(self._end_fd, self._on_end)
        for pid, mark in self._watched.items():
            self._send(f"+{pid} {mark}\n")

    def _on_end(self) -> None:
        """Replace a watchdog that was killed."""
        logger.warning("the watchdog was ended and is replaced")
        watchdog = self._watchdog
        self._release()
        if watchdog is not None:
            # Its output is closed, so it has ended or is about to.
            watchdog.kill()
            watchdog.wait()
        self._revival = asyncio.get_running_loop().call_later(REVIVE_SECONDS, self._start)

    def _release(self) -> None:
        self._watchdog = None
        if self._end_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._end_fd)
            os.close(self._end_fd)
            os.close(self._send_fd)
        self._end_fd = self._send_fd = -1

    def _send(self, line: str) -> None:
        if self._send_fd >= 0:
            # If it has ended, `_on_end` notices, and its successor gets the full list.
            with contextlib.suppress(BrokenPipeError, BlockingIOError):
                os.write(self._send_fd, line.encode())


def _wait(watchdog: subprocess.Popen[bytes]) -> None:
    try:
        watchdog.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        watchdog.kill()
        watchdog.wait()
