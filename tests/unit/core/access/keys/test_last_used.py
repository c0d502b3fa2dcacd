from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bridge.core.access.keys import KeyFile
from bridge.core.access.keys.last_used import STORE_SECONDS, LastUsed


class Times:
    def __init__(self) -> None:
        self.clock = 0.0
        self.now = 1000.0


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "state" / "keys.json")


def noting(file: KeyFile, times: Times) -> LastUsed:
    return LastUsed(file, clock=lambda: times.clock, now=lambda: times.now)


async def test_a_use_is_stored_at_once_and_then_once_a_minute(file: KeyFile, times: Times) -> None:
    file.add("phone")
    (key,) = file.read()
    used = noting(file, times)
    for clock, now, stored in [
        (0.0, 1000.0, 1000),
        (STORE_SECONDS - 1, 1059.0, 1000),
        (STORE_SECONDS, 1060.0, 1060),
    ]:
        times.clock, times.now = clock, now
        used.note(key)
        await used.store()
        assert file.used() == {key.id: stored}
    times.now = 1065
    used.note(key)
    await used.store(at_once=True)
    assert file.used() == {key.id: 1065}


async def test_several_servers_share_the_file_and_the_latest_use_counts(
    file: KeyFile, times: Times
) -> None:
    for name in ("phone", "laptop", "gone"):
        file.add(name)
    phone, laptop, gone = file.read()
    one, other = noting(file, times), noting(file, times)
    for key in (phone, gone):
        one.note(key)
    times.now = 900
    for key in (phone, laptop):
        other.note(key)
    await one.store()
    file.revoke("gone")
    await other.store()
    assert file.used() == {phone.id: 1000, laptop.id: 900}


async def test_what_could_not_be_stored_is_stored_later_and_said_once(
    file: KeyFile, times: Times, caplog: pytest.LogCaptureFixture
) -> None:
    file.add("phone")
    (key,) = file.read()
    file.used_path.mkdir()
    used = noting(file, times)
    used.note(key)
    for _ in range(2):
        await used.store(at_once=True)
    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "keys-used.json cannot be written" in record.getMessage()
    file.used_path.rmdir()
    await used.store(at_once=True)
    assert file.used() == {key.id: 1000}


def test_a_broken_file_of_uses_is_no_error(file: KeyFile) -> None:
    file.add("phone")
    assert file.used() == {}
    for text in ("", "[]", '{"used": 1}', '{"used": {"a": "x"}}'):
        file.used_path.write_text(text)
        assert file.used() == {}
