from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from bridge.core.system.private_files import (
    locked,
    open_private,
    private_file,
    private_folder,
    replace_file,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_for_its_owner_alone_or_made_so(tmp_path: Path) -> None:
    private_folder(tmp_path / "new" / "state")
    assert mode(tmp_path / "new" / "state") == 0o700
    open_ = tmp_path / "open"
    open_.mkdir()
    open_.chmod(0o755)
    private_folder(open_)
    assert mode(open_) == 0o700


def test_a_folder_that_is_shared_on_purpose_is_left_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    private_folder(shared)
    assert mode(shared) == 0o1777
    assert str(shared) in caplog.text


def test_so_is_one_that_holds_the_users_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tmp_path.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    private_folder(tmp_path)
    assert mode(tmp_path) == 0o755
    assert str(tmp_path) in caplog.text


def test_a_file_that_others_can_read_is_taken_from_them(tmp_path: Path) -> None:
    file = tmp_path / "file"
    private_file(file)
    assert not file.exists()
    file.write_text("x")
    file.chmod(0o644)
    private_file(file)
    assert mode(file) == 0o600
    file.chmod(0o666)
    os.close(open_private(file, os.O_WRONLY))
    assert (mode(file), file.read_text()) == (0o600, "x")


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(
    tmp_path: Path, durable: bool
) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o644)
    replace_file(file, "néw", durable=durable)
    assert (file.read_text(encoding="utf-8"), mode(file)) == ("néw", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "\ud800")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_only_one_at_a_time_holds_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    order: list[str] = []
    trying = threading.Event()

    def second() -> None:
        trying.set()
        with locked(file):
            order.append("second")

    with locked(file):
        thread = threading.Thread(target=second)
        thread.start()
        assert trying.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
