"""Descriptors of .proto files, made by the compiler that makes the stubs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from google.api import http_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc  # type: ignore[import-untyped]

from tests.support.paths import ROOT

PROTO = ROOT / "proto"


def described(root: Path, *options: str) -> FileDescriptorSet:
    """Compile every file below a folder; what they import from Google is installed."""
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.proto"))
    googles = (Path(protoc.__file__).parent / "_proto", Path(http_pb2.__file__).parents[2])
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "set")
        includes = [f"-I{folder}" for folder in (root, *googles)]
        arguments = [*includes, f"--descriptor_set_out={target}", *options]
        if protoc.main(["protoc", *arguments, *names]) != 0:
            raise ValueError(f"the files in {root} do not compile")
        return FileDescriptorSet.FromString(target.read_bytes())
