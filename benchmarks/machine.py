"""The machine and the versions that a report was measured on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bridge import __version__


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, without anything that identifies its owner, and the versions."""

    cores: int
    cpu: str
    memory_gb: float
    load: float
    """Load average of the last minute, before the run."""
    system: str
    versions: dict[str, str]


def this_machine() -> Machine:
    """Describe the current machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cores=os.cpu_count() or 0,
        cpu=_cpu(),
        memory_gb=round(memory / 2**30, 1),
        load=round(os.getloadavg()[0], 2),
        system=f"{platform.system()} {platform.machine()}",
        versions={
            "bridge": __version__,
            "Python": platform.python_version(),
            **{name: version(name) for name in ("claude-agent-sdk", "grpcio", "uvicorn")},
            "Claude Code": _cli(),
        },
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _cli() -> str:
    from claude_agent_sdk import _cli_version

    return str(_cli_version.__cli_version__)
