"""The example in TypeScript, built once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.programs import libraries_of
from tests.support.harness import PATIENCE
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
BUILT = shutil.ignore_patterns("__pycache__", "dist", "gen", "node_modules", "protos")


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder of examples, with the packages of the one in TypeScript.

    Without npm or a registry the tests that need it are skipped.
    """
    packages = libraries_of(EXAMPLES / "typescript")
    folder = tmp_path_factory.mktemp("copy") / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=BUILT)
    (folder / "typescript" / "node_modules").symlink_to(packages)
    # As if it was installed here: installing again would empty the cache behind the link.
    os.utime(folder / "typescript" / "package-lock.json", (0, 0))
    return folder


@pytest.fixture(scope="session")
def typescript(copied: Path) -> Path:
    """The compiled program."""
    folder = copied / "typescript"
    for command in (
        (sys.executable, "-m", "bridge", "protos", "protos"),
        ("npm", "run", "build"),
    ):
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist" / "client.js"
