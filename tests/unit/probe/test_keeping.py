"""Probe reports are stored between starts, and untrusted ones are not used."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.probe import Report, report_for
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.keeping import FILE_NAME


class Probing:
    """Stands in for the probe, and counts its calls."""

    def __init__(self, *lacking: str) -> None:
        self.times = 0
        self.lacking = lacking

    async def __call__(self, cli: Path) -> Report:
        self.times += 1
        found = {behaviour.id: behaviour.id not in self.lacking for behaviour in BEHAVIOURS}
        details = dict.fromkeys(self.lacking, "seen otherwise")
        return Report("2.0.0", found, details)


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


@pytest.fixture
def cli(tmp_path: Path) -> Path:
    return written(tmp_path / "claude", "one")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state" / "deeper"


async def test_it_is_found_out_once_and_read_again_the_same(cli: Path, state: Path) -> None:
    probing = Probing("rewind-after-tools")
    first = await report_for(cli, state, probing=probing)
    second = await report_for(cli, state, probing=probing)
    assert first == second
    assert probing.times == 1


async def test_only_the_owner_can_read_it_and_nothing_else_is_left(cli: Path, state: Path) -> None:
    await report_for(cli, state, probing=Probing())
    assert os.listdir(state) == [FILE_NAME]
    assert stat.S_IMODE(os.stat(state / FILE_NAME).st_mode) == 0o600


async def test_another_binary_is_looked_at_and_the_first_is_still_known(
    cli: Path, state: Path, tmp_path: Path
) -> None:
    probing = Probing()
    await report_for(cli, state, probing=probing)
    other = written(tmp_path / "other", "two")
    await report_for(other, state, probing=probing)
    assert probing.times == 2
    await report_for(cli, state, probing=probing)
    await report_for(other, state, probing=probing)
    assert probing.times == 2


async def test_a_binary_that_was_replaced_in_its_place_is_looked_at(cli: Path, state: Path) -> None:
    probing = Probing()
    await report_for(cli, state, probing=probing)
    written(cli, "a new one")
    await report_for(cli, state, probing=probing)
    assert probing.times == 2


async def test_a_cli_that_cannot_be_used_is_looked_at_again_at_each_start(
    cli: Path, state: Path
) -> None:
    probing = Probing("replay")
    await report_for(cli, state, probing=probing)
    await report_for(cli, state, probing=probing)
    assert probing.times == 2
    assert not (state / FILE_NAME).exists()


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def text(before: str) -> str:
        data = json.loads(before)
        change(data)
        return json.dumps(data)

    return text


def _only_report(data: dict[str, Any]) -> dict[str, Any]:
    (report,) = data["reports"].values()
    assert isinstance(report, dict)
    return report


@pytest.mark.parametrize(
    "change",
    [
        lambda before: "",
        lambda before: before[:-20],
        lambda before: "[1]",
        lambda before: "null",
        lambda before: "[" * 100_000,
        lambda before: "\udcff",
        _changed(lambda data: data.pop("list")),
        _changed(lambda data: data["list"].update(version=0)),
        _changed(lambda data: data["list"].update(bridge="0.0.0")),
        _changed(lambda data: data.update(reports=[1])),
        _changed(lambda data: _only_report(data).pop("details")),
        _changed(lambda data: _only_report(data)["found"].pop("replay")),
        _changed(lambda data: _only_report(data)["found"].update(another=True)),
        _changed(lambda data: _only_report(data)["found"].update(replay="yes")),
    ],
    ids=[
        "empty",
        "cut off",
        "a list",
        "null",
        "too deep",
        "not UTF-8",
        "of no list",
        "of another list",
        "of another bridge",
        "no reports",
        "half a report",
        "a behaviour too few",
        "a behaviour too many",
        "not a bool",
    ],
)
async def test_a_file_that_is_broken_or_of_another_list_counts_as_none(
    cli: Path, state: Path, change: Callable[[str], str]
) -> None:
    await report_for(cli, state, probing=Probing())
    file = state / FILE_NAME
    file.write_bytes(change(file.read_text()).encode("utf-8", "surrogateescape"))
    probing = Probing()
    await report_for(cli, state, probing=probing)
    assert probing.times == 1
    await report_for(cli, state, probing=probing)
    assert probing.times == 1, "it was written anew"


async def test_a_folder_that_cannot_be_written_costs_a_line_in_the_log_and_no_start(
    cli: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    report = await report_for(cli, blocked / "state", probing=Probing())
    assert all(report.found.values())
    assert "could not be stored" in caplog.text


async def test_a_cli_that_is_not_there_is_an_os_error(state: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await report_for(tmp_path / "none", state, probing=Probing())
