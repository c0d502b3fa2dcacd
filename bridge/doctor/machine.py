"""The memory and the disk of this machine or container."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path


def disk_of(folder: Path) -> tuple[bool, int]:
    """Whether the folder can be created and written, and the free bytes there."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return writable and _takes_a_file(existing), shutil.disk_usage(existing).free


def _takes_a_file(folder: Path) -> bool:
    # For root everything counts as writable, even on a read-only disk.
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes available to new processes, a container's limit included; None if unknown."""
    found = [amount for amount in (_of_machine(root), _of_container(root)) if amount is not None]
    return min(found, default=None)


def _of_machine(root: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _of_container(root: Path) -> int | None:
    group = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError, ValueError):
        limit, used = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        return max(int(limit) - int(used), 0)
    return None
