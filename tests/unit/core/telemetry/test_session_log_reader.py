"""`bridge logs`: the reader, and the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app
from bridge.core.telemetry.session_log import Rotation, SessionLog, rotated
from bridge.core.telemetry.session_log_reader import LogReader, cells, wanted
from tests.support.harness import PATIENCE

ALL = wanted()


class NothingNewError(Exception):
    """Raised instead of a pause, so that a test knows that everything was read."""


def stop() -> None:
    raise NothingNewError


def more(reader: LogReader) -> list[Any]:
    """Return what `follow` yields before it would pause."""
    found = []
    try:
        for entry in reader.follow(ALL, stop):
            found.append(entry.record["n"])
    except NothingNewError:
        return found
    raise AssertionError("follow came to an end")


def write(path: Path, *numbers: int, **changes: Any) -> None:
    with path.open("a") as file:
        for n in numbers:
            file.write(json.dumps({"n": n, **changes}) + "\n")


def last(reader: LogReader, count: int) -> list[Any]:
    return [entry.record["n"] for entry in reader.last(count, ALL)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.jsonl"


def test_the_last_lines_are_found_across_rotations_in_order(path: Path) -> None:
    write(rotated(path, 10), 1)
    write(rotated(path, 2), 2, 3)
    write(rotated(path, 1), 4, 5)
    write(path, 6)
    for count, numbers in ((0, []), (1, [6]), (3, [4, 5, 6]), (4, [3, 4, 5, 6])):
        with LogReader(path) as reader:
            assert last(reader, count) == numbers
    with LogReader(path) as reader:
        assert last(reader, 100) == [1, 2, 3, 4, 5, 6]


def test_what_follows_is_given_once_over_one_rotation_and_over_several(path: Path) -> None:
    write(path, 1, 2)
    with LogReader(path) as reader:
        assert last(reader, 1) == [2]
        assert more(reader) == []
        write(path, 3)
        assert more(reader) == [3]
        write(path, 4)
        path.rename(rotated(path, 1))
        write(path, 5)
        assert more(reader) == [4, 5]
        write(path, 6)
        rotated(path, 1).rename(rotated(path, 3))
        path.rename(rotated(path, 2))
        write(rotated(path, 1), 7)
        write(path, 8)
        assert more(reader) == [6, 7, 8]
        assert reader.broken == 0


def test_a_log_that_comes_only_later_is_followed_from_its_beginning(path: Path) -> None:
    with LogReader(path) as reader:
        assert last(reader, 10) == []
        assert more(reader) == []
        write(path, 1)
        assert more(reader) == [1]


def test_a_file_that_was_emptied_is_read_from_its_new_beginning(path: Path) -> None:
    write(path, 1, 2, 3)
    with LogReader(path) as reader:
        last(reader, 1)
        path.write_text("")
        assert more(reader) == []
        write(path, 4)
        assert more(reader) == [4]


def test_half_a_line_is_waited_for(path: Path) -> None:
    path.write_text('{"n": 1}\n{"n"')
    with LogReader(path) as reader:
        assert last(reader, 10) == [1]
        with path.open("a") as file:
            file.write(": 2}\n")
        assert more(reader) == [2]
        assert reader.broken == 0


def test_broken_lines_are_passed_over_and_counted(path: Path) -> None:
    write(path, 1)
    with path.open("ab") as file:
        file.write(b'{"n": \n[1]\nnull\n\xff\xfe\n\n')
    write(path, 2)
    with LogReader(path) as reader:
        assert last(reader, 10) == [1, 2]
        # A blank line does not count as invalid.
        assert reader.broken == 4


def test_requests_are_chosen_by_the_beginning_of_their_id_and_by_failure() -> None:
    good: dict[str, Any] = {"request_id": "req_abc1", "error": None}
    bad = {"request_id": "req_abd2", "error": "PLAN_LIMIT"}
    assert [wanted("req_abc")(r) for r in (good, bad)] == [True, False]
    assert [wanted("ab")(r) for r in (good, bad)] == [True, True]
    assert [wanted(errors=True)(r) for r in (good, bad)] == [False, True]
    assert not wanted("abc", errors=True)(good)


def test_a_request_is_wanted_by_the_callers_own_id_and_labels() -> None:
    plain: dict[str, Any] = {"request_id": "req_1", "labels": None}
    own = {"request_id": "req_2", "client_request_id": "order-1", "labels": {"a": "1", "b": "2"}}
    assert [wanted("order-1")(each) for each in (plain, own)] == [False, True]
    assert not wanted("order")(own)
    assert [wanted(labels=[("a", "1")])(each) for each in (plain, own, {})] == [False, True, False]
    assert wanted(labels=[("a", "1"), ("b", "2")])(own)
    assert not wanted(labels=[("a", "1"), ("b", "1")])(own)


def test_a_record_of_which_nothing_is_known_is_an_empty_row() -> None:
    assert set(cells({})) == {""}
    assert cells({"time": "nonsense", "queue_ms": "1"})[:2] == ("nonsense", "")


def test_what_a_caller_has_written_stays_in_its_cell() -> None:
    asked = "claude-x\n11-28 12:00:00\x1b[2J\x9b\u202e é"
    assert cells({"model_asked": asked})[4] == "claude-x�11-28 12:00:00�[2J�� é"


def record(**changes: Any) -> dict[str, Any]:
    return {
        "time": "2026-01-02T03:04:05Z",
        "request_id": "req_0123456789abcdef",
        "api": "grpc",
        "key": "team",
        "model_asked": "opus",
        "model": "claude-opus-9",
        "session": "continued",
        "queue_ms": 10,
        "first_token_ms": 250,
        "total_ms": 1500,
        "finish": "stop",
        "error": None,
        "input_tokens": 3,
        "cache_read_tokens": 40,
        "cache_write_tokens": 0,
        "output_tokens": 7,
        **changes,
    }


def run(path: Path, *arguments: str) -> Result:
    env = {"BRIDGE_STATE_DIR": str(path.parent), "TZ": "UTC"}
    return CliRunner().invoke(app, ("logs", *arguments), env=env)


@pytest.fixture
def written(path: Path) -> Path:
    log = SessionLog(path, Rotation(max_bytes=500, keep=9))
    log.write(record())
    log.write(record(request_id="req_failed", error="QUEUE_FULL", finish=None, output_tokens=None))
    log.write(record(request_id="req_evil", model="a\x1b[2J\x9bb", key="[bold]"))
    log.close()
    assert rotated(path, 1).exists()
    return path


def test_the_table_has_a_line_for_each_request(written: Path) -> None:
    result = run(written)
    assert result.exit_code == 0, result.output
    head, good, bad, evil = (" ".join(line.split()) for line in result.stdout.splitlines())
    assert head == "time request api key model session queue first total tokens end"
    line = good
    for told in ("01-02", "0123456789ab", "grpc", "team", "claude-opus-9", "continued", "0.01"):
        assert told in line
    for told in ("0.25", "1.50", "43 + 7", "stop"):
        assert told in line
    assert "QUEUE_FULL" in bad
    assert "a\ufffd[2J\ufffdb" in evil
    assert "[bold]" in evil


def test_on_a_narrow_terminal_nothing_is_lost(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = run(written).stdout.split()
    monkeypatch.setattr(sys.modules["bridge.cli.logs"], "table_width", lambda: 80)
    assert run(written).stdout.split() == wide


def test_the_requests_of_a_key_and_of_earlier_ones_of_its_name(path: Path) -> None:
    log = SessionLog(path)
    for key in ("team", "team#2", "teams", None):
        log.write(record(key=key))
    log.close()

    def keys(name: str) -> list[str]:
        lines = run(path, "--key", name, "--json").stdout.splitlines()
        return [json.loads(line)["key"] for line in lines]

    assert keys("team") == ["team", "team#2"]
    assert keys("team#2") == ["team#2"]
    assert keys("tea") == []


def test_lines_are_chosen_by_flags_and_given_as_they_are(written: Path) -> None:
    whole = [json.loads(line) for line in run(written, "--json").stdout.splitlines()]
    assert [line["request_id"][:8] for line in whole] == ["req_0123", "req_fail", "req_evil"]
    assert whole[0] == record()
    (line,) = run(written, "--json", "--errors").stdout.splitlines()
    assert json.loads(line)["error"] == "QUEUE_FULL"
    (line,) = run(written, "--json", "--id", "req_0123").stdout.splitlines()
    assert json.loads(line)["request_id"] == "req_0123456789abcdef"
    (line,) = run(written, "--json", "-n", "1").stdout.splitlines()
    assert json.loads(line)["request_id"] == "req_evil"


def test_an_id_that_no_request_has_is_reported(written: Path) -> None:
    result = run(written, "--id", "req_nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "req_nobody" in result.stderr
    assert run(written, "--errors", "-n", "0").exit_code == 0


def test_broken_lines_are_reported_at_the_end(written: Path) -> None:
    with written.open("a") as file:
        file.write("nonsense\n")
    result = run(written, "--json")
    assert result.stderr == "skipped 1 malformed line\n"
    assert len(result.stdout.splitlines()) == 3


def test_a_missing_log_is_reported_with_the_reason(path: Path) -> None:
    result = run(path)
    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert "bridge serve" in result.stderr
    off = CliRunner().invoke(app, ("logs",), env={"BRIDGE_SESSION_LOG": "off"})
    assert off.exit_code == 1
    assert "BRIDGE_SESSION_LOG=off" in off.stderr


@pytest.fixture
def following(written: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "logs", "-f", "--json", "-n", "1"],
        env={**os.environ, "BRIDGE_STATE_DIR": str(written.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=PATIENCE)


def test_the_command_follows_over_a_rotation_until_ctrl_c(
    following: subprocess.Popen[str], written: Path
) -> None:
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["request_id"] == "req_evil"
    log = SessionLog(written, Rotation(max_bytes=500, keep=9))
    for n in range(4):
        log.write(record(request_id=f"req_{n}"))
    log.close()
    for n in range(4):
        assert json.loads(following.stdout.readline())["request_id"] == f"req_{n}"
    following.send_signal(signal.SIGINT)
    assert following.wait(PATIENCE) == 0
    assert following.stderr is not None
    assert following.stderr.read() == ""


def test_the_command_filters_by_label(path: Path) -> None:
    log = SessionLog(path)
    log.write(record(request_id="req_mine", labels={"team": "search", "app": "a=b"}))
    log.write(record(request_id="req_theirs", labels={"team": "maps"}))
    log.close()
    for labels in (("team=search",), ("team=search", "app=a=b")):
        options = [option for label in labels for option in ("--label", label)]
        shown = run(path, "--json", *options).stdout
        assert "req_mine" in shown
        assert "req_theirs" not in shown
    wrong = run(path, "--label", "team")
    assert wrong.exit_code == 1
    assert "NAME=VALUE" in wrong.output
