from __future__ import annotations

import json
import logging
import stat
from pathlib import Path
from typing import Any

import pytest

from bridge.core.recording import SessionLog


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_each_record_is_one_line_of_json_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    log = SessionLog(path)
    records: list[dict[str, Any]] = [
        {"a": 1},
        {"text": "two\nlines\r\n and \u2028 more, grüße"},
        {"none": None},
    ]
    for record in records:
        log.write(record)
    log.close()
    assert path.read_bytes().count(b"\n") == 3
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == records


def test_half_of_a_surrogate_pair_in_a_record_costs_neither_the_line_nor_the_answer(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sessions.jsonl"
    log = SessionLog(path)
    log.write({"model_asked": "a\ud800b"})
    log.close()
    assert lines(path) == [{"model_asked": "a\ud800b"}]


def test_only_the_owner_can_read_the_file_and_the_folder_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "sessions.jsonl"
    log = SessionLog(path)
    log.write({})
    log.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_several_logs_share_a_file_and_none_takes_lines_away(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    one, other = SessionLog(path), SessionLog(path)
    for n in range(10):
        one.write({"n": n})
        other.write({"n": n})
    one.close()
    other.close()
    late = SessionLog(path)
    late.write({"n": 10})
    late.close()
    assert [line["n"] for line in lines(path)] == [n // 2 for n in range(20)] + [10]


def test_no_path_means_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = SessionLog(None)
    log.write({"a": 1})
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_made_before_there_is_something_to_write(tmp_path: Path) -> None:
    SessionLog(tmp_path / "state" / "sessions.jsonl").close()
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_written_costs_lines_and_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    file.touch()
    log = SessionLog(file / "sessions.jsonl")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            log.write({"a": 1})
    log.close()
    assert len(caplog.records) == 1
    assert "cannot be written" in caplog.text


def test_a_log_that_can_be_written_again_goes_on_and_complains_anew_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    obstacle = tmp_path / "state"
    obstacle.touch()
    log = SessionLog(obstacle / "sessions.jsonl")
    with caplog.at_level(logging.WARNING):
        log.write({"n": 1})
        obstacle.unlink()
        log.write({"n": 2})
    log.close()
    assert len(caplog.records) == 1
    assert lines(obstacle / "sessions.jsonl") == [{"n": 2}]


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    log = SessionLog(tmp_path / "sessions.jsonl")
    log.write({})
    log.close()
    log.close()


def test_no_end_of_line_within_a_record_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = SessionLog(path)
    record = {"model_asked": "a\u2028b\x85c\nd\ud800"}
    log.write(record)
    log.close()
    (line,) = path.read_text().splitlines()
    assert json.loads(line) == record
