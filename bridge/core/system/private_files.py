"""Files of the server's own: readable by their owner alone, whatever the umask and whatever was
there before, and never half written.
"""

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
    """Make a folder that only its owner can enter, or make it so; raises OSError.

    One that is shared on purpose, or that holds the person's home, is left as it is: what is put
    into it is private all the same.
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
    """Take a file, if there is one, from everybody but its owner; raises OSError."""
    if path.exists() and path.stat().st_mode & _OTHERS:
        path.chmod(0o600)


def open_private(path: Path, flags: int) -> int:
    """Open a file, made if need be, so that only its owner can read it; raises OSError."""
    fd = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) != 0o600:
            os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def replace_file(path: Path, text: str, *, durable: bool = True) -> None:
    """Put a new text in the place of a file in one step, with mode 0600. Raises OSError.

    Unless it is `durable`, the disk is not waited for, and a power cut can lose it.
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
def locked(path: Path) -> Iterator[None]:
    """Hold a file against other processes that change it by this too. Raises OSError.

    The lock is a file beside it: the file itself is replaced by each change.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path.with_name(f".{path.name}.lock"), flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
