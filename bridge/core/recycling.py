"""When a process has served enough and is replaced by a new one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bridge.core.session import Session


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a process has served enough: its memory grows with use."""

    answers: int = 200
    memory_bytes: int = 600 * 1024 * 1024

    def due(self, session: Session) -> bool:
        """Whether the session's process is to be replaced by a new one."""
        if session.worn or session.answers >= self.answers:
            return True
        memory = resident_bytes(session.pid)
        return memory is not None and memory > self.memory_bytes


def resident_bytes(pid: int) -> int | None:
    """The memory a process holds; None where the system does not tell (only Linux does)."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
