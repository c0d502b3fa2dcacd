"""Unix sockets: who could connect, and what is never removed."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bridge.core.system.unix_sockets import (
    MAX_PATH_BYTES,
    UnixSocket,
    UnixSocketError,
    make_unix_socket,
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private folder with a short path, which sockets need."""
    with TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        yield made


def listen(at: Path, with_socket: socket.socket) -> UnixSocket:
    def bind(to: Path) -> None:
        with_socket.bind(str(to))
        with_socket.listen()

    return make_unix_socket(at, bind)


def connect(to: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(to))


def sockets_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_socket()]


def test_the_folder_and_the_socket_are_the_owners_alone(
    folder: Path, listening: socket.socket
) -> None:
    path = folder / "new" / "http.sock"
    before = os.umask(0)
    try:
        listen(path, listening)
        # It is restored afterwards.
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert sockets_in(path.parent) == ["http.sock"]
    connect(path)


def test_it_is_never_there_with_other_rights(folder: Path, listening: socket.socket) -> None:
    path = folder / "s"
    seen: list[tuple[bool, int]] = []

    def bind(to: Path) -> None:
        listening.bind(str(to))
        seen.append((path.exists(), stat.S_IMODE(to.lstat().st_mode)))

    before = os.umask(0)
    try:
        make_unix_socket(path, bind)
    finally:
        os.umask(before)
    assert seen == [(False, 0o600)]


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o770, 0o755, 0o1777])
def test_a_folder_that_others_may_enter_is_refused(
    folder: Path, listening: socket.socket, mode: int
) -> None:
    folder.chmod(mode)
    with pytest.raises(UnixSocketError, match=r"other users can enter (?!.*chmod).*such as"):
        listen(folder / "s", listening)
    assert sockets_in(folder) == []


def test_a_folder_of_another_user_is_refused(
    folder: Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(UnixSocketError, match="belongs to another user"):
        listen(folder / "s", listening)


def test_a_link_to_a_folder_is_refused(folder: Path, listening: socket.socket) -> None:
    (folder / "real").mkdir(mode=0o700)
    (folder / "link").symlink_to(folder / "real")
    with pytest.raises(UnixSocketError, match="not a folder"):
        listen(folder / "link" / "s", listening)


def test_what_a_server_listens_on_is_refused_and_left_alone(
    folder: Path, listening: socket.socket
) -> None:
    path = folder / "s"
    listen(path, listening)
    with (
        closing(socket.socket(socket.AF_UNIX)) as second,
        pytest.raises(UnixSocketError, match="another server listens"),
    ):
        listen(path, second)
    connect(path)
    assert sockets_in(folder) == ["s"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells a full queue otherwise")
def test_a_server_too_busy_to_answer_still_counts_as_a_server(folder: Path) -> None:
    path = folder / "s"
    with closing(socket.socket(socket.AF_UNIX)) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(str(path))
        with (
            closing(socket.socket(socket.AF_UNIX)) as second,
            pytest.raises(UnixSocketError, match="another server listens"),
        ):
            listen(path, second)
        for client in waiting:
            client.close()


def test_what_a_server_left_behind_is_replaced(folder: Path, listening: socket.socket) -> None:
    path = folder / "s"
    with closing(socket.socket(socket.AF_UNIX)) as gone:
        gone.bind(str(path))
        gone.listen()
    with pytest.raises(ConnectionRefusedError):
        connect(path)
    listen(path, listening)
    connect(path)


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_what_is_no_socket_is_never_removed(
    folder: Path, listening: socket.socket, kind: str
) -> None:
    path = folder / "s"
    match kind:
        case "file":
            path.write_text("precious")
        case "link":
            path.symlink_to(folder / "nowhere")
        case _:
            path.mkdir()
    before = path.lstat()
    with pytest.raises(UnixSocketError, match="not a socket"):
        listen(path, listening)
    assert path.lstat().st_ino == before.st_ino


def test_at_the_end_it_is_removed(folder: Path, listening: socket.socket) -> None:
    made = listen(folder / "s", listening)
    made.remove()
    assert sockets_in(folder) == []
    made.remove()


def test_what_has_come_into_its_place_is_left_there(folder: Path, listening: socket.socket) -> None:
    path = folder / "s"
    made = listen(path, listening)
    path.unlink()
    with closing(socket.socket(socket.AF_UNIX)) as another:
        listen(path, another)
        made.remove()
        connect(path)


def test_a_path_that_no_address_holds_is_reported_clearly(
    folder: Path, listening: socket.socket
) -> None:
    path = folder / ("s" * MAX_PATH_BYTES)
    with pytest.raises(UnixSocketError, match=f"too long .* {MAX_PATH_BYTES} bytes"):
        listen(path, listening)


def test_a_folder_that_cannot_be_created_is_reported_clearly(
    folder: Path, listening: socket.socket
) -> None:
    (folder / "file").write_text("")
    with pytest.raises(UnixSocketError, match=r"cannot be created: .*\."):
        listen(folder / "file" / "s", listening)


def test_when_binding_fails_nothing_is_left(folder: Path, listening: socket.socket) -> None:
    def bind(to: Path) -> None:
        listening.bind(str(to))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        make_unix_socket(folder / "s", bind)
    assert sockets_in(folder) == []
