from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.core.access.keys import (
    KeyFile,
    KeyStoreError,
)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "state" / "keys.json")


def test_no_secret_is_in_the_file(file: KeyFile) -> None:
    secret = file.add("laptop")
    assert secret.removeprefix("sk-bridge-") not in file.path.read_text()


def test_only_its_owner_can_read_the_file_and_enter_its_folder(file: KeyFile) -> None:
    before = os.umask(0)
    try:
        file.add("laptop")
        file.add("phone")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    for path in file.path.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # No part of it is left.
    assert {path.name for path in file.path.parent.iterdir()} == {"keys.json", ".keys.json.lock"}


def _broken(entry: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "{"
    yield "[" * 100_000
    yield "[]"
    yield json.dumps({"keys": [entry]})
    yield json.dumps({"version": 0, "keys": [entry]})
    yield json.dumps({"version": "2", "keys": [entry]})
    yield json.dumps({"version": 1, "keys": [entry], "numbers": {"laptop": 0}})
    yield json.dumps({"version": 1, "keys": [entry, entry]})
    yield json.dumps({"version": 1, "keys": {"a": entry}})
    for field, value in [
        ("name", "no good"),
        ("name", 1),
        ("sha256", "12"),
        ("sha256", None),
        ("scope", "everything"),
        ("limits", {}),
        ("limits", {**entry["limits"], "concurrent": 0}),
        ("limits", {**entry["limits"], "models": "opus"}),
        ("created_at", "then"),
        ("created_at", math.inf),
    ]:
        yield json.dumps({"version": 1, "keys": [{**entry, field: value}]})
        yield json.dumps({"version": 1, "keys": [{n: v for n, v in entry.items() if n != field}]})


def test_a_broken_file_is_refused_in_one_line_that_repeats_nothing_of_it(file: KeyFile) -> None:
    file.add("laptop")
    content = json.loads(file.path.read_text())
    (entry,) = content["keys"]
    for text in _broken(entry):
        file.path.write_text(text)
        with pytest.raises(KeyStoreError, match=r"is broken\. Restore it") as raised:
            file.read()
        assert "\n" not in str(raised.value)
        assert entry["sha256"] not in str(raised.value)
        # Nor is it written over.
        with pytest.raises(KeyStoreError):
            file.add("phone")
        assert file.path.read_text() == text


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(file: KeyFile, mode: int) -> None:
    file.add("laptop")
    file.path.chmod(mode)
    with pytest.raises(KeyStoreError, match="chmod 600"):
        file.read()


def test_a_file_of_another_user_is_refused(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.add("laptop")
    if os.geteuid() == 0:
        os.chown(file.path, 12345, -1)
    else:
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(KeyStoreError, match="chown"):
        file.read()


def test_a_folder_that_others_may_write_is_refused(file: KeyFile) -> None:
    file.add("laptop")
    file.path.parent.chmod(0o777)
    with pytest.raises(
        KeyStoreError, match=r"own.*BRIDGE_KEYS_FILE|only you can.*BRIDGE_KEYS_FILE"
    ):
        file.read()
    # In one like /tmp only the owner of a file can replace it.
    file.path.parent.chmod(0o1777)
    assert len(file.read()) == 1


def test_what_cannot_be_read_or_written_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyStoreError, match="cannot be written"):
        KeyFile(tmp_path / "file" / "keys.json").add("laptop")
    (tmp_path / "folder").mkdir()
    with pytest.raises(KeyStoreError, match="cannot be read"):
        KeyFile(tmp_path / "folder").read()
