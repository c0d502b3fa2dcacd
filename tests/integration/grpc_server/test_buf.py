"""buf itself accepts the .proto files, without the network.

test_proto_style.py checks most of the rules in every run; buf knows the others, and the format.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from tests.clients.programs import environment, libraries_of
from tests.support.grpc.described import PROTO
from tests.support.harness import PATIENCE
from tests.support.paths import ROOT

# Of google/api only the imports are needed.
CONFIGURATION = """
version: v2
modules:
  - path: proto
  - path: imports
lint:
  use: [STANDARD, COMMENTS]
  ignore: [imports]
"""

COMPLETION = Path("proto", "bridge", "v1", "completion.proto")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    written = CliRunner().invoke(app, ("protos", str(tmp_path / "written")))
    assert written.exit_code == 0
    shutil.copytree(PROTO, tmp_path / "proto")
    shutil.copytree(tmp_path / "written" / "google", tmp_path / "imports" / "google")
    (tmp_path / "buf.yaml").write_text(CONFIGURATION)
    return tmp_path


def buf(workspace: Path, *arguments: str) -> str:
    """Run buf; return what it finds, nothing if all is well."""
    program = libraries_of(ROOT / "examples" / "typescript") / ".bin" / "buf"
    done = subprocess.run(
        (program, *arguments),
        cwd=workspace,
        env=environment(workspace),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    found = done.stdout + done.stderr
    assert bool(found) == bool(done.returncode)
    return found


def test_it_finds_no_fault(workspace: Path) -> None:
    assert buf(workspace, "lint") == ""
    assert buf(workspace, "format", "--diff", "--exit-code", "proto") == ""


def test_it_finds_a_fault(workspace: Path) -> None:
    file = workspace / COMPLETION
    file.write_text(file.read_text() + "message Bare {int32 theField = 1;}\n")
    found = buf(workspace, "lint")
    assert 'Message "Bare" should have a non-empty comment' in found
    assert 'Field name "theField" should be lower_snake_case' in found
    assert "+message Bare {" in buf(workspace, "format", "--diff", "--exit-code", "proto")
