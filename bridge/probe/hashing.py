"""The hash of a file, without holding up the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path


async def sha256_of(file: Path) -> str:
    """The file's SHA-256 in hexadecimal; about a second for the CLI. Raises OSError."""
    return await asyncio.to_thread(_sha256, file)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
