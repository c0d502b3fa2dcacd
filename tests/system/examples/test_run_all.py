"""`make examples` runs all examples, and fails if one fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.harness import LONG, PATIENCE
from tests.support.paths import ROOT


def run_all(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `make examples` runs, on a copy of the folder, as below a server's own settings."""
    return subprocess.run(
        (sys.executable, "-m", "examples"),
        cwd=folder.parent,
        env={**os.environ, "BRIDGE_API_KEYS": "mine=sk-mine-0123456789", "PORT": "1", **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def titles(printed: str) -> list[str]:
    return [line.partition(":")[0] for line in printed.splitlines() if line.startswith("examples/")]


@LONG
def test_all_succeed(copied: Path) -> None:
    done = run_all(copied)
    assert done.returncode == 0, done.stdout + done.stderr
    assert titles(done.stdout) == [
        "examples/python_async.py",
        "examples/python_openai.py",
        "examples/python_sync.py",
        "examples/typescript/client.ts",
    ]
    assert done.stdout.count('add({"a": 19, "b": 23}) = 42\n19 + 23 is 42.\n') == 3
    assert done.stdout.count("… CANCELLED\n") == 3


@pytest.fixture
def without_node(tmp_path: Path) -> str:
    """A PATH on which there is neither Node nor npm."""
    return str(tmp_path)


@LONG
def test_one_that_fails_is_named_and_the_others_run(tmp_path: Path, without_node: str) -> None:
    folder = tmp_path / "examples"
    folder.mkdir()
    for name in ("__main__.py", "python_sync.py"):
        shutil.copy(ROOT / "examples" / name, folder)
    (folder / "python_broken.py").write_text('"""Fail."""\nraise SystemExit(3)\n')
    done = run_all(folder, PATH=without_node)
    assert done.returncode == 1
    assert "examples/python_broken.py: Fail.\nFAILED with exit code 3\n" in done.stdout
    assert "… CANCELLED\n" in done.stdout
    assert "examples/typescript is skipped: Node and npm are not installed." in done.stdout
    assert "All examples" not in done.stdout


@LONG
def test_one_that_cannot_be_built_fails(copied: Path, tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    shutil.copytree(copied, folder, symlinks=True)
    with (folder / "typescript" / "client.ts").open("a") as program:
        program.write("const wrong: number = prompt;\n")
    done = run_all(folder)
    assert done.returncode == 1
    assert "npm run build failed" in done.stderr
    assert "error TS2322" in done.stderr
