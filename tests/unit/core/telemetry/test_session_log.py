from __future__ import annotations

import json
import logging
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bridge.core.telemetry.session_log import MAX_WAITING, Rotation, SessionLog, locked, rotated
from bridge.core.telemetry.session_log_reader import LogReader
from tests.support.harness import PATIENCE


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
        for log in (one, other):
            log.write({"n": n})
            log.flush()
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


def test_a_log_that_can_be_written_again_resumes_and_warns_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    obstacle = tmp_path / "state"
    obstacle.touch()
    log = SessionLog(obstacle / "sessions.jsonl")
    with caplog.at_level(logging.WARNING):
        log.write({"n": 1})
        log.flush()
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


def files_of(path: Path) -> list[Path]:
    """The log's files, oldest first."""
    numbers = (n for n in range(1, 1000) if rotated(path, n).exists())
    return [rotated(path, n) for n in sorted(numbers, reverse=True)] + [path]


def test_a_file_that_would_grow_too_large_is_set_aside_first(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    # Two lines of nine bytes fit, and two old files are kept.
    log = SessionLog(path, Rotation(max_bytes=25, keep=2))
    for n in range(9):
        log.write({"n": n})
    log.close()
    kept = [[line["n"] for line in lines(file)] for file in files_of(path)]
    assert kept == [[4, 5], [6, 7], [8]]
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in tmp_path.iterdir())


def test_a_line_longer_than_a_file_may_be_has_one_to_itself(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    log = SessionLog(path, Rotation(max_bytes=10, keep=5))
    records: list[dict[str, Any]] = [{"a": "x" * 50}, {"b": 1}, {"c": "y" * 50}]
    for record in records:
        log.write(record)
    log.close()
    assert [lines(file) for file in files_of(path)] == [[record] for record in records]


def test_zero_never_rotates_and_no_old_files_means_none(tmp_path: Path) -> None:
    endless, short = tmp_path / "endless.jsonl", tmp_path / "short.jsonl"
    for path, rotation in ((endless, Rotation(0, 5)), (short, Rotation(8, 0))):
        log = SessionLog(path, rotation)
        for n in range(10):
            log.write({"n": n})
        log.close()
        assert files_of(path) == [path]
    assert len(lines(endless)) == 10
    assert lines(short) == [{"n": 9}]


_WRITER = """
import sys
from pathlib import Path
from bridge.core.telemetry.session_log import Rotation, SessionLog
log = SessionLog(Path(sys.argv[1]), Rotation(max_bytes=300, keep=900))
sys.stdin.readline()
for n in range(int(sys.argv[3])):
    log.write({"by": sys.argv[2], "n": n})
    if n % 20 == 0:
        log.flush()
log.close()
"""


def test_servers_that_share_a_log_lose_no_line_by_rotating_it_and_a_reader_misses_none(
    tmp_path: Path,
) -> None:
    path, count = tmp_path / "sessions.jsonl", 600
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), name, str(count)],
            stdin=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    seen: list[tuple[str, int]] = []
    with LogReader(path) as reader:
        over = time.monotonic() + PATIENCE

        def pause() -> None:
            time.sleep(0.001)
            assert time.monotonic() < over, len(seen)

        entries = reader.follow(lambda record: True, pause)
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for entry in entries:
            seen.append((entry.record["by"], entry.record["n"]))
            if len(seen) == 2 * count:
                break
        assert reader.broken == 0
    for writer in writers:
        assert writer.wait(PATIENCE) == 0
        assert writer.stdin is not None
        writer.stdin.close()
    files = files_of(path)
    assert len(files) > 10
    assert all(file.stat().st_size <= 300 for file in files)
    kept = [(line["by"], line["n"]) for file in files for line in lines(file)]
    assert kept == seen
    for name in "ab":
        assert [n for by, n in kept if by == name] == list(range(count))


def test_a_lock_or_a_disk_that_hangs_delays_no_request_and_lost_lines_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sessions.jsonl"
    log = SessionLog(path)
    with locked(path, exclusive=True):
        for n in range(MAX_WAITING + 10):
            log.write({"n": n})
        assert not path.exists()
    log.close()
    written = [line["n"] for line in lines(path)]
    # The thread had taken one, so there was room for one more.
    assert written in (list(range(MAX_WAITING)), list(range(MAX_WAITING + 1)))
    assert "were lost" in caplog.text


def test_a_line_after_half_a_line_stands_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_bytes(b'{"n": 0}\n{"n":')
    log = SessionLog(path)
    log.write({"n": 2})
    log.close()
    assert path.read_bytes() == b'{"n": 0}\n{"n":\n{"n": 2}\n'


def test_a_file_that_was_moved_away_by_hand_is_recreated(tmp_path: Path) -> None:
    path = tmp_path / "sessions.jsonl"
    log = SessionLog(path)
    log.write({"n": 1})
    log.flush()
    path.rename(tmp_path / "archive")
    log.write({"n": 2})
    log.close()
    assert lines(path) == [{"n": 2}]
