"""When a process is due for replacement."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bridge.core.claude import Session


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a process is replaced: its memory grows with use."""

    answers: int = 200
    memory_bytes: int = 600 * 1024 * 1024
    runaway_bytes: int = 2 * 1024 * 1024 * 1024
    """Above this size, the process is ended even in the middle of its turn."""

    def due(self, session: Session) -> bool:
        """Whether the session's process is to be replaced by a new one."""
        if session.out_of_tool_names or session.answers >= self.answers:
            return True
        return _larger(session, self.memory_bytes)

    def runaway(self, session: Session) -> bool:
        """Whether the session's process is so large that it must be ended now."""
        return _larger(session, self.runaway_bytes)


def _larger(session: Session, limit: int) -> bool:
    memory = resident_bytes(session.pid)
    return memory is not None and memory > limit


def resident_bytes(pid: int) -> int | None:
    """Return the memory of a process; None if the system does not report it (only Linux does)."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
