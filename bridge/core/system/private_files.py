"""The server's own files: readable only by their owner, whatever the umask and their earlier mode,
and never half written."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

_OTHERS = 0o077


def private_folder(path: Path) -> None:
    """Create a folder that only its owner can enter, or restrict an existing one; raises OSError.

    One that is deliberately shared, or that contains the user's home, is left unchanged: files in
    it are private anyway.
    """
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = path.stat()
    if not status.st_mode & _OTHERS:
        return
    shared = status.st_mode & stat.S_ISVTX or status.st_uid != os.geteuid()
    if made or not (shared or Path.home().is_relative_to(path.resolve())):
        path.chmod(0o700)
    else:
        logger.warning("other users can enter the folder %s", path)


def private_file(path: Path) -> None:
    """Make a file private to its owner, if it exists; raises OSError."""
    if path.exists() and path.stat().st_mode & _OTHERS:
        path.chmod(0o600)


def open_private(path: Path, flags: int) -> int:
    """Open a file, created if needed, so that only its owner can read it; raises OSError."""
    fd = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) != 0o600:
            os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def replace_file(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace the content of a file atomically, with mode 0600. Raises OSError.

    Unless `durable`, this does not wait for the disk, and a power cut can lose the change.
    """
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(made, flags, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock a file against other processes that use this function. Raises OSError.

    Unless it may `wait`, raises BlockingIOError if another process has the lock.
    The lock is a file beside it, since each change replaces the file itself.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path.with_name(f".{path.name}.lock"), flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)
