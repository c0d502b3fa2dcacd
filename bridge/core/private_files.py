"""Small files of the server's own: readable by their owner alone, and never half written."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_private_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, unless it is there. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


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
