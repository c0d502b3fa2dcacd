"""Unix sockets that only this process's own user can connect to.

A socket is bound to a secret name in a private folder and then renamed. So it never exists with
other permissions, a socket that another server listens on is never replaced, and a library that
removes its socket's path when it stops (as gRPC does, whatever is there by then) removes a name
that no longer exists.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.core.system.private_files import locked

logger = logging.getLogger(__name__)

MAX_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103
"""The size of the system's address structure."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class UnixSocketError(Exception):
    """The socket cannot be created. The text is one line: the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A socket that exists in the file system until `remove`."""

    path: Path
    device: int
    inode: int

    def remove(self) -> None:
        """Remove it, unless something else has replaced it."""
        try:
            with locked(self.path):
                found = self.path.lstat()
                if (found.st_dev, found.st_ino) == (self.device, self.inode):
                    self.path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("the socket %s could not be removed: %s", self.path, error.strerror)


def make_unix_socket(path: Path, bind: Callable[[Path], object]) -> UnixSocket:
    """Create a socket with mode 0600 in a folder with mode 0700.

    `bind` binds a socket to the given path and listens. A missing folder is created. A socket
    without a server is replaced. Raises UnixSocketError, and what `bind` raises.
    """
    path = path.expanduser().absolute()
    hidden = path.with_name(f".{secrets.token_hex(4)}")
    if max(len(os.fsencode(path)), len(os.fsencode(hidden))) > MAX_PATH_BYTES:
        raise UnixSocketError(
            f"the path {path} is too long for a socket: the limit is {MAX_PATH_BYTES} bytes. "
            "Choose a shorter one."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _check_folder(path)
        with locked(path):
            _clear(path)
            try:
                _with_umask(lambda: bind(hidden))
                # A default ACL of the folder overrides the umask.
                hidden.chmod(0o600)
                hidden.rename(path)
            except BaseException:
                hidden.unlink(missing_ok=True)
                raise
            found = path.lstat()
    except OSError as error:
        raise UnixSocketError(
            f"the socket {path} cannot be created: {error.strerror or error}."
        ) from None
    return UnixSocket(path, found.st_dev, found.st_ino)


def is_served(path: Path) -> bool:
    """Whether a server already listens on this socket; creates nothing.

    Raises UnixSocketError if no socket could be created there, as far as can be determined.
    """
    try:
        if path.parent.exists():
            _check_folder(path)
        found = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnixSocketError(f"the socket {path} cannot be reached: {error.strerror}.") from None
    if not stat.S_ISSOCK(found.st_mode):
        raise _not_a_socket(path)
    return _answers(path)


def _not_a_socket(path: Path) -> UnixSocketError:
    return UnixSocketError(f"{path} exists and is not a socket. Choose another path.")


def _with_umask(bind: Callable[[], object]) -> None:
    # The umask applies to the whole process. This is harmless: it changes for an instant at the
    # start, and a file that another thread creates meanwhile can only become more private.
    before = os.umask(_OTHERS | stat.S_IXUSR)
    try:
        bind()
    finally:
        os.umask(before)


def _check_folder(path: Path) -> None:
    """Check that no other user can enter the folder to connect, or write to it to replace the
    socket."""
    folder = path.parent
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnixSocketError(
            f"{folder} is not a folder, but a link or a file. Use the socket's real folder."
        )
    if found.st_uid != os.geteuid():
        raise UnixSocketError(
            f"the folder {folder} belongs to another user. Choose a folder of your own for the "
            f"socket, such as {folder / 'bridge' / path.name}."
        )
    if found.st_mode & _OTHERS:
        raise UnixSocketError(
            f"other users can enter the folder {folder}. Choose another for the socket, such as "
            f"{folder / 'bridge' / path.name}, which is then made private."
        )


def _clear(path: Path) -> None:
    """Remove a socket that a server left behind; raise if anything else exists there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _not_a_socket(path)
    if _answers(path):
        raise UnixSocketError(f"another server listens on {path}. Stop it, or choose another path.")
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # With a full queue of connections it fails at once instead of waiting.
        probe.setblocking(False)
        with suppress(FileNotFoundError):
            number = probe.connect_ex(os.fspath(path))
            return number not in (errno.ECONNREFUSED, errno.ENOENT)
    return False
