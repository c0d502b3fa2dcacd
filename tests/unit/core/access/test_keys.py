from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bridge.core.access.keys import (
    Key,
    KeyFile,
    KeyFileError,
    KeyLimits,
    KeyScope,
    digest_of,
    parse_given,
)

LONG = "correct-horse-battery"
OTHER = "staple-staple-staple"


def given(name: str, secret: str, scope: KeyScope = KeyScope.COMPLETE) -> Key:
    return Key(name, digest_of(secret), scope)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (LONG, (given("key-1", LONG),)),
        (f" {LONG} , ,{OTHER},", (given("key-1", LONG), given("key-2", OTHER))),
        (f"laptop={LONG}", (given("laptop", LONG),)),
        (f"op:admin={LONG}", (given("op", LONG, KeyScope.ADMIN),)),
        (f"a={LONG}==", (given("a", f"{LONG}=="),)),
    ],
)
def test_keys_of_the_environment(text: str, keys: tuple[Key, ...]) -> None:
    assert parse_given(text) == keys


@pytest.mark.parametrize(
    "text",
    [
        "fifteen-letters",
        "laptop=short",
        f"laptop={LONG}, short",
        f"{'x' * 30}=",  # a secret that ends like that is taken for a name
        "tab\tin-the-middle-of-it",
        "schlüssel-der-lang-genug-ist",
        f"a={LONG},a={OTHER}",
        f"a={LONG},b={LONG}",
        " , ",
    ],
)
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="key") as raised:
        parse_given(text)
    said = str(raised.value)
    for part in re.findall(r"[^\s,=]{5,}", text):
        assert part not in said


@pytest.mark.parametrize("name", ["concurrent", "per_minute", "tokens_per_day"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1"])
def test_a_limit_is_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        KeyLimits(**{name: value})


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "state" / "keys.json")


LIMITS = KeyLimits(2, 30, 100_000, ("haiku", "opus"))


def test_a_key_that_is_added_is_there_hashed(file: KeyFile) -> None:
    assert file.read() == ()
    assert file.signature() is None
    secret = file.add("laptop", KeyScope.ADMIN, LIMITS, now=lambda: 12.5)
    assert re.fullmatch(r"sk-bridge-[A-Za-z0-9_-]{43}", secret)
    assert file.read() == (Key("laptop", digest_of(secret), KeyScope.ADMIN, LIMITS, 12),)
    assert secret.removeprefix("sk-bridge-") not in file.path.read_text()
    assert file.add("phone") != secret
    assert [key.name for key in file.read()] == ["laptop", "phone"]


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


def test_a_name_is_given_once(file: KeyFile) -> None:
    file.add("laptop")
    with pytest.raises(ValueError, match="revoke it first"):
        file.add("laptop")
    assert len(file.read()) == 1


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "-a", "(tour)", "x" * 65, "a\n"])
def test_a_bad_name_is_refused(file: KeyFile, name: str) -> None:
    with pytest.raises(ValueError, match="letters"):
        file.add(name)


def test_a_key_that_is_revoked_is_gone(file: KeyFile) -> None:
    file.add("laptop")
    file.add("phone")
    assert file.revoke("laptop") == 1
    assert [key.name for key in file.read()] == ["phone"]
    with pytest.raises(KeyError):
        file.revoke("laptop")
    assert file.revoke("phone") == 0
    assert file.path.exists()


def test_concurrent_changes_lose_nothing(file: KeyFile) -> None:
    names = [f"key{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(file.add, names))
    assert {key.name for key in file.read()} == set(names)


def test_each_change_gives_another_signature(file: KeyFile) -> None:
    file.add("laptop")
    one = file.signature()
    assert one == file.signature()
    file.add("phone")
    assert file.signature() != one


def _broken(entry: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield "{"
    yield "[" * 100_000
    yield "[]"
    yield json.dumps({"keys": [entry]})
    yield json.dumps({"version": 2, "keys": [entry]})
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
        ("limits", {**entry["limits"], "unknown": 1}),
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
        with pytest.raises(KeyFileError, match=r"is broken\. Restore it") as raised:
            file.read()
        assert "\n" not in str(raised.value)
        assert entry["sha256"] not in str(raised.value)
        # Nor is it written over.
        with pytest.raises(KeyFileError):
            file.add("phone")
        assert file.path.read_text() == text


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(file: KeyFile, mode: int) -> None:
    file.add("laptop")
    file.path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        file.read()


def test_a_file_of_another_user_is_refused(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.add("laptop")
    if os.geteuid() == 0:
        os.chown(file.path, 12345, -1)
    else:
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(KeyFileError, match="chown"):
        file.read()


def test_a_folder_that_others_may_write_is_refused(file: KeyFile) -> None:
    file.add("laptop")
    file.path.parent.chmod(0o777)
    with pytest.raises(KeyFileError, match=r"own.*BRIDGE_KEYS_FILE|only you can.*BRIDGE_KEYS_FILE"):
        file.read()
    # In one like /tmp only the owner of a file can replace it.
    file.path.parent.chmod(0o1777)
    assert len(file.read()) == 1


def test_what_cannot_be_read_or_written_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="cannot be written"):
        KeyFile(tmp_path / "file" / "keys.json").add("laptop")
    (tmp_path / "folder").mkdir()
    with pytest.raises(KeyFileError, match="cannot be read"):
        KeyFile(tmp_path / "folder").read()
