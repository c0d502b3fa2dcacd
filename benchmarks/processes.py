"""Starts and ends other processes, and measures their CPU and memory."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import bridge

ROOT = Path(bridge.__file__).resolve().parent.parent
START_SECONDS = 120.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02


class StartFailedError(Exception):
    """A process did not start; the message contains its last output."""


class Started:
    """A Python module running in a separate process, with its output in a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> Started:
        """Run `python -m` with these arguments."""
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                env=dict(env),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach only the benchmark, which ends its processes itself.
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def printed(self, pattern: str) -> re.Match[str]:
        """Wait for output that matches."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                if match := re.search(pattern, self._log.read_text(errors="replace")):
                    return match
                if self._process.returncode is not None:
                    raise StartFailedError(
                        f"exited before printing {pattern!r}: {self.last_output}"
                    )
                await asyncio.sleep(_POLL_SECONDS)

    @property
    def last_output(self) -> str:
        """The end of its output."""
        return self._log.read_text(errors="replace")[-2000:]

    async def stop(self) -> None:
        """Terminate it; if that takes too long, kill it and its descendants."""
        if self._process.returncode is not None:
            return
        children = descendants(self.pid)
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            for pid in (self.pid, *children):
                _kill(pid)
            await self._process.wait()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Use:
    """CPU seconds used so far, and resident memory in bytes, summed over processes."""

    cpu: float = 0.0
    memory: int = 0
    ended: float = 0.0
    """CPU seconds of children that have ended; Linux only."""


def use_of(pids: Iterable[int]) -> Use:
    """The total for these processes; ended ones count as zero."""
    uses = [_use(pid) for pid in pids]
    return Use(
        sum(use.cpu for use in uses),
        sum(use.memory for use in uses),
        sum(use.ended for use in uses),
    )


def _use(pid: int) -> Use:
    try:
        # The fields after the command, whose name may contain spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return Use() if Path("/proc/self").exists() else _use_by_ps(pid)
    except ProcessLookupError:
        return Use()
    own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    tick = 1 / os.sysconf("SC_CLK_TCK")
    return Use(own * tick, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), ended * tick)


def _use_by_ps(pid: int) -> Use:
    fields = _ps("-o", "time=,rss=", "-p", str(pid)).split()
    return Use(seconds(fields[0]), int(fields[1]) * 1024) if len(fields) == 2 else Use()


def seconds(clock: str) -> float:
    """Seconds of a time in ps format: [[days-]hours:]minutes:seconds[.hundredths]."""
    days, _, rest = clock.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = total * 60 + float(part)
    return total + 86400 * float(days or 0)


def descendants(pid: int) -> tuple[int, ...]:
    """The ids of all descendants of a process."""
    lines = [line.split() for line in _ps("-A", "-o", "pid=,ppid=,comm=").splitlines()]
    # ps itself is a child of this process.
    pairs = [(int(line[0]), int(line[1])) for line in lines if line[-1] != "ps"]
    found: list[int] = []
    parents = {pid}
    while parents:
        parents = {child for child, parent in pairs if parent in parents and child not in found}
        found += sorted(parents)
    return tuple(found)


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout
