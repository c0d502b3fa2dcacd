"""Generates the gRPC stubs for wheels, editable installs, sdists and `make proto`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from google.api import http_pb2  # type: ignore[import-untyped]
from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTOS = Path("proto")
PACKAGE = Path("bridge", "v1")
DESCRIPTORS = "bridge.binpb"
"""A FileDescriptorSet of bridge.v1 with all imports, for proxies and dynamic clients."""
DETAILS = "google/rpc/error_details.proto"
"""No file imports the details of errors; a proxy needs them to write an error as JSON."""

PLUGINS = {"protoc-gen-mypy": "main", "protoc-gen-mypy_grpc": "grpc"}
"""protoc plugins and their functions in mypy_protobuf.main."""


class StubsHook(BuildHookInterface[BuilderConfig]):
    """Runs before every build, so that a checkout needs no separate step."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate(Path(self.root))


def generate(root: Path) -> None:
    """Update the stubs in bridge/v1 from the files in proto/bridge/v1.

    Beside them are copies of the .proto files, and their descriptors.
    """
    folder = root / PROTOS / PACKAGE
    sources = sorted(str(path.relative_to(root)) for path in folder.glob("*.proto"))
    if not sources:
        raise FileNotFoundError(f"no .proto file in {folder}")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "out")
        out.mkdir()
        _run_protoc(root, sources, out, Path(scratch))
        for source in sources:
            shutil.copy(root / source, out / PACKAGE)
        _replace(out / PACKAGE, root / PACKAGE)


def _run_protoc(root: Path, sources: list[str], out: Path, scratch: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc"]
    # Not written as a package's attribute: `google` is a namespace without a file.
    google = Path(http_pb2.__file__).parents[2]
    command += [f"--proto_path={PROTOS}", f"--proto_path={google}"]
    for name, function in PLUGINS.items():
        # In an isolated build the plugins' scripts are neither next to the interpreter nor always
        # on PATH; their modules can be imported wherever this one runs.
        code = f"from mypy_protobuf.main import {function}; {function}()"
        plugin = scratch / name
        plugin.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c "{code}"\n')
        plugin.chmod(0o700)
        command.append(f"--plugin={name}={plugin}")
    command += [f"--python_out={out}", f"--grpc_python_out={out}"]
    command += [f"--mypy_out=quiet:{out}", f"--mypy_grpc_out=quiet:{out}"]
    command += ["--include_imports", f"--descriptor_set_out={out / PACKAGE / DESCRIPTORS}"]
    subprocess.run([*command, *sources, DETAILS], cwd=root, check=True)


def _replace(new: Path, target: Path) -> None:
    """Replace the generated files in `target` with those in `new`, writing only changed ones.

    Each file is replaced atomically: another process may be importing it.
    """
    for path in [*target.glob("*_pb2*.py*"), *target.glob("*.proto")]:
        if not (new / path.name).exists():
            path.unlink()
    for path in new.iterdir():
        content = path.read_bytes()
        final = target / path.name
        if final.exists() and final.read_bytes() == content:
            continue
        draft = final.with_name(f".{final.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(final)


if __name__ == "__main__":
    generate(Path(__file__).resolve().parent)
