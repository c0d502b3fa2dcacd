"""Store the description of the API as the one that is released.

    python -m tests.support.grpc.update_descriptor

Run it in the root of the repository with every release. It refuses what would break clients of
the last one; with --break it does not ask.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tests.support.grpc.compatibility import breaks
from tests.support.grpc.described import PROTO, described

RELEASED = PROTO / "descriptor.json"
"""A FileDescriptorSet as JSON text, which shows in a diff what has changed."""


def released(path: Path = RELEASED) -> FileDescriptorSet:
    """Read the description that is stored."""
    return json_format.Parse(path.read_text(), FileDescriptorSet())


def update(path: Path, now: FileDescriptorSet, *, force: bool) -> list[str]:
    """Store `now`; where it breaks what is stored, do so only by force. Gives what it breaks."""
    faults = list(breaks(released(path), now)) if path.exists() else []
    if force or not faults:
        path.write_text(json_format.MessageToJson(now, indent=1) + "\n")
    return faults


if __name__ == "__main__":
    by_force = "--break" in sys.argv[1:]
    broken = update(RELEASED, described(PROTO), force=by_force)
    print("\n".join(broken) or f"{RELEASED} is up to date.")
    sys.exit(bool(broken) and not by_force)
