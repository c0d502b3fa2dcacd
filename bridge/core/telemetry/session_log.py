"""The session log: one JSON line per request, for the operator of the server.

By default it contains no part of any prompt or answer. A thread writes it, so that neither a slow
disk nor a rotation delays an answer. Several servers may share the file: each writes and rotates
only under a lock, and continues in the new file after another has rotated.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bridge.core.system import open_private, private_folder
from bridge.core.telemetry.request_record import RequestRecord

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 10_000
"""Lines that wait for an unresponsive disk; further ones are lost and counted."""
CLOSE_SECONDS: Final = 5.0
"""How long a stopping server waits for an unresponsive disk, in seconds."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """When the file is rotated, and how many old files are kept."""

    max_bytes: int = 16 * 1024 * 1024
    """The maximum size of a file, unless a single line is longer; 0 never rotates."""
    keep: int = 5
    """The number of old files, from `NAME.1`, the newest, on."""


def rotated(path: Path, number: int) -> Path:
    """Return the path of an old file; 0 is the current one."""
    return path.with_name(f"{path.name}.{number}") if number else path


@contextmanager
def locked(path: Path, *, exclusive: bool) -> Iterator[None]:
    """Prevent the log's files from being rotated; no effect if no lock is available."""
    flags = (os.O_RDWR | os.O_CREAT if exclusive else os.O_RDONLY) | os.O_CLOEXEC
    fd = -1
    with contextlib.suppress(OSError):
        # A reader before the first writer has nothing to wait for.
        fd = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    try:
        yield
    finally:
        if fd >= 0:
            os.close(fd)


class SessionLog:
    """Appends records to a file that only its owner can read. An Observer."""

    def __init__(
        self, path: Path | None, rotation: Rotation = Rotation(), replica: str = ""
    ) -> None:
        """Write to `path`; None disables the log. `replica` is the name of this server."""
        self._path = path
        self._replica = replica
        self._rotation = rotation
        self._fd: int | None = None
        self._complained = False
        self._closed = False
        self._lost = 0
        self._lines: queue.Queue[Callable[[], Mapping[str, Any]] | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None

    def began(self, record: RequestRecord) -> None:
        """Do nothing: only finished requests are logged."""

    def ended(self, record: RequestRecord) -> None:
        """Do nothing: the cost follows."""

    def booked(self, record: RequestRecord) -> None:
        """Append the record of a request."""
        self._put(lambda: {**record.line(), "replica": self._replica})

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record, without waiting."""
        self._put(lambda: record)

    def flush(self) -> None:
        """Wait until all records so far are in the file."""
        if self._thread is not None:
            self._lines.join()

    def close(self) -> None:
        """Write the pending records and close the file; later ones are dropped."""
        self._closed = True
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._lines.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                logger.warning(
                    "the session log %s: the last lines could not be written", self._path
                )
                return
            self._thread = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _put(self, line: Callable[[], Mapping[str, Any]]) -> None:
        if self._path is None or self._closed:
            return
        if self._thread is None:
            # A daemon: an unresponsive disk must not keep the server from ending.
            self._thread = threading.Thread(
                target=self._work, args=(self._path,), name="session-log", daemon=True
            )
            self._thread.start()
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1

    # In the thread

    def _work(self, path: Path) -> None:
        while True:
            line = self._lines.get()
            try:
                if line is None:
                    return
                # ASCII only: Unicode has other line separators, which a caller may have put into a
                # name.
                self._append(path, json.dumps(line()).encode() + b"\n")
                self._report_lost(path)
                self._complained = False
            except OSError as error:
                self._report_failure(path, error)
            except Exception:
                logger.exception("a line of the session log could not be serialized")
            finally:
                self._lines.task_done()

    def _report_failure(self, path: Path, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            logger.warning("the session log %s cannot be written: %s", path, error)

    def _report_lost(self, path: Path) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            logger.warning("%d lines of the session log %s were lost: disk too slow", lost, path)

    def _append(self, path: Path, line: bytes) -> None:
        # Each time: the operator may have removed it.
        private_folder(path.parent)
        with locked(path, exclusive=True):
            fd = self._current(path)
            size = os.fstat(fd).st_size
            limit = self._rotation.max_bytes
            if limit and size and size + len(line) > limit:
                self._rotate(path)
                fd, size = self._current(path), 0
            if size and os.pread(fd, 1, size - 1) != b"\n":
                # A server was killed, or the disk was full, in the middle of a line: start a new
                # one.
                line = b"\n" + line
            while line:
                line = line[os.write(fd, line) :]

    def _current(self, path: Path) -> int:
        """Return the open file, reopened if another server or the operator has moved it."""
        if self._fd is not None:
            try:
                same = os.path.samestat(os.fstat(self._fd), os.stat(path))
            except FileNotFoundError:
                same = False
            if not same:
                os.close(self._fd)
                self._fd = None
        if self._fd is None:
            self._fd = open_private(path, os.O_RDWR | os.O_APPEND)
        return self._fd

    def _rotate(self, path: Path) -> None:
        keep = self._rotation.keep
        if not keep:
            path.unlink()
            return
        # Up to the first gap; without one the oldest is replaced.
        free = next((n for n in range(1, keep) if not rotated(path, n).exists()), keep)
        for number in range(free, 0, -1):
            # Without a lock, another server may have been faster.
            with contextlib.suppress(FileNotFoundError):
                os.replace(rotated(path, number - 1), rotated(path, number))
