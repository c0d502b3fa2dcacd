"""`bridge protos`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli.common import fail

GOOGLE = (
    "api/annotations.proto",
    "api/field_behavior.proto",
    "api/http.proto",
    "rpc/error_details.proto",
    "rpc/status.proto",
)
"""What bridge.v1 imports, and what its errors are made of; google/protobuf is in every compiler."""


def protos(
    folder: Annotated[
        Path, typer.Argument(help="Where to write them; created if it does not exist.")
    ],
) -> None:
    """Write the .proto files of the gRPC API, with what they use of google/api and google/rpc.

    Beside them bridge.binpb, a binary descriptor with all imports, for proxies and dynamic clients.
    """
    from google.api import http_pb2  # type: ignore[import-untyped]

    import bridge.v1

    ours, googles = Path(bridge.v1.__path__[0]), Path(http_pb2.__file__).parents[1]
    files = [(path, Path("bridge", "v1", path.name)) for path in sorted(ours.glob("*.proto"))]
    files += [(googles / name, Path("google", name)) for name in GOOGLE]
    files.append((ours / "bridge.binpb", Path("bridge.binpb")))
    try:
        for source, name in files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            typer.echo(target)
    except OSError as error:
        fail(f"{error.filename or folder} cannot be written: {error.strerror}.")
