"""The Makefile's own help."""

from __future__ import annotations

import os
import re
import subprocess

from tests.support.paths import ROOT

TARGETS = {
    "help",
    "demo",
    "serve",
    "proto",
    "test",
    "test-long",
    "unit",
    "check",
    "bench",
    "examples",
    "probe",
    "soak",
    "clean",
    "lock",
}
STEPS = {"setup", "setup-dev", "venv"}
"""Of use to the other targets only."""


def test_help_lists_every_target() -> None:
    listed = re.findall(r"^  make ([a-z-]+) +\S", _make("help"), re.MULTILINE)

    assert sorted(listed) == sorted(TARGETS)
    assert set(_targets()) == TARGETS | STEPS


def test_make_alone_is_help() -> None:
    assert _make() == _make("help")


def test_no_target_is_taken_for_a_file() -> None:
    makefile = (ROOT / "Makefile").read_text()

    assert sorted(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)) == sorted(_targets())


def _targets() -> list[str]:
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)


def _make(*arguments: str) -> str:
    # A make around this one hands its own options on in these.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
