"""Finds the files of a killed CLI process by its process id and removes them.

The CLI registers itself under its process id, for other Claude Code processes of the user to find,
and unregisters if it can end by itself. Measured, and tested in
tests/integration/claude/test_leftovers.py.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bridge.core.system import born

logger = logging.getLogger(__name__)

_SESSIONS: Final = "sessions"
_SOCKETS: Final = "cc-socks"
_TEMPORARY: Final = ("XDG_RUNTIME_DIR", "CLAUDE_CODE_TMPDIR", "TMPDIR")
"""Variables that can each name the parent of the socket's folder."""

_CLOCK_SECONDS: Final = 2.0
"""Seconds that a file's time may lag behind the clock: some file systems store whole seconds."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The files in which a process has registered itself."""

    pid: int
    folders: tuple[Path, ...]
    born: str
    """When the process started, in the system's format, which the CLI writes into its files; empty
    if unknown."""
    since: float
    """When the process started, in Unix seconds."""

    @classmethod
    def of(cls, pid: int, environment: Mapping[str, str]) -> Self:
        """Return those of a process that was just started with this environment."""
        home = Path(environment.get("HOME") or "~").expanduser()
        config = Path(environment.get("CLAUDE_CONFIG_DIR") or home / ".claude")
        temporary = [environment[name] for name in _TEMPORARY if environment.get(name)]
        return cls(
            pid,
            (config / _SESSIONS, *(Path(name) / _SOCKETS for name in (*temporary, "/tmp"))),
            # Other systems need another process to find out.
            born(pid) if sys.platform == "linux" else "",
            time.time() - _CLOCK_SECONDS,
        )

    def remove(self) -> None:
        """Remove them, once the process has ended."""
        for path in self._files():
            # Already removed, or another user's.
            with contextlib.suppress(OSError):
                if self._own(path):
                    path.unlink()

    def _files(self) -> Iterator[Path]:
        # The names continue with a dot; otherwise they would match other processes.
        prefix = f"{self.pid}."
        for folder in self.folders:
            with contextlib.suppress(OSError):
                yield from (folder / name for name in os.listdir(folder) if name.startswith(prefix))

    def _own(self, path: Path) -> bool:
        """Whether a file is from this process, and not from an earlier one with the same id, here
        or in another container that shares the folder."""
        if path.lstat().st_mtime < self.since:
            return False
        if path.is_symlink() or not path.is_file():
            return path.is_socket()
        try:
            content = json.loads(path.read_bytes())
        except ValueError:
            return False
        started = content.get("procStart") if isinstance(content, dict) else None
        return started == self.born if self.born else started is not None
