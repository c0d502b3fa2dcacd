"""The benchmark as it is run, on one scenario and with few rounds. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.harness import PATIENCE
from tests.support.paths import ROOT

SUBJECTS = {"simulated API", "SDK client", "SDK client, never cleared", "HTTP API", "gRPC API"}


def test_a_quick_run_reports_every_subject_and_leaves_nothing_behind(tmp_path: Path) -> None:
    figures, report = tmp_path / "figures.json", tmp_path / "report.md"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--only", "warm", "--rounds", "2"),
            *("--json", str(figures), "--markdown", str(report)),
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (warm,) = json.loads(figures.read_text())["scenarios"]
    assert warm["name"] == "warm"
    assert warm["error"] is None
    assert {line["subject"] for line in warm["lines"]} == SUBJECTS
    assert {line["what"] for line in warm["lines"]} == {"first token", "whole answer"}
    for line in warm["lines"]:
        assert line["samples"] == 2
        assert line["median"] > 0
        assert (line["ratio_to_sdk"] is None) == (line["subject"] == "SDK client")
    assert report.read_text().strip() == run.stdout.strip()
    assert all(subject in run.stdout for subject in SUBJECTS)
    # Every process had its files here.
    assert list(scratch.glob("bridge-bench-*")) == []
    assert str(tmp_path) not in _command_lines()


def _command_lines() -> str:
    return subprocess.run(
        ["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True
    ).stdout
