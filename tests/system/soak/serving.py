"""A bridge in its own process, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.core.claude.processes.launch import hermetic_environment
from tests.support.harness import PATIENCE
from tests.support.paths import ROOT

_POLL_SECONDS = 0.1
_CLI = "_bundled/claude"
_SETTLING = ("starting", "preparing", "running", "resetting", "closing")


@dataclass(frozen=True)
class Standing:
    """How the server stands in a quiet moment."""

    tasks: int
    fds: int
    rss_mb: float
    peak_mb: float
    """The most that it ever had."""
    processes: int

    def __str__(self) -> str:
        return (
            f"{self.processes} processes, {self.tasks} tasks, {self.fds} file descriptors, "
            f"{self.rss_mb:.0f} MB"
        )


class Server:
    """The bridge in its process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.http = 0
        self.grpc = 0
        self.seen: set[int] = set()
        """Every CLI process that it was seen to have."""
        self.failures: list[str] = []
        """What it has logged with a traceback, as far as it was asked."""

    async def ask(self) -> dict[str, Any]:
        """How it stands."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        now = await self.line()
        self.failures = now["failures"]
        return now

    async def line(self) -> dict[str, Any]:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        if not line:
            raise RuntimeError("the server has ended")
        value: dict[str, Any] = json.loads(line)
        return value

    async def children(self) -> list[int]:
        """Its CLI processes."""
        found = [
            process.pid
            for process in await _processes()
            if process.parent == self.process.pid and _CLI in process.command
        ]
        self.seen.update(found)
        return found

    async def settled(self) -> Standing:
        """Wait until nothing runs any more."""
        async with asyncio.timeout(PATIENCE):
            while True:
                now = await self.ask()
                if not now["waiting"] and not any(now["processes"][s] for s in _SETTLING):
                    break
                await asyncio.sleep(_POLL_SECONDS)
        (rss_kb,) = [p.rss_kb for p in await _processes() if p.pid == self.process.pid]
        processes = sum(now["processes"].values())
        return Standing(now["tasks"], now["fds"], rss_kb / 1024, now["peak_mb"], processes)

    async def settled_like(self, good: Callable[[Standing], bool]) -> Standing:
        """Wait for such a moment in which it stands well, or a while for it to come.

        Connections end in their own time.
        """
        until = time.monotonic() + PATIENCE
        while True:
            now = await self.settled()
            if good(now) or time.monotonic() > until:
                return now
            await asyncio.sleep(_POLL_SECONDS)


@asynccontextmanager
async def serving(folder: Path, upstream: str, **settings: str) -> AsyncIterator[Server]:
    """Start a bridge in front of this model, and end it with SIGTERM.

    Raises AssertionError where it does not end well or leaves a CLI process behind.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.system.soak.server",
        cwd=ROOT,
        env={
            **hermetic_environment(os.environ, folder, upstream),
            "PORT": "0",
            "GRPC_PORT": "0",
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "BRIDGE_SYSTEM_PROMPT": "none",
            **settings,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    server = Server(process)
    try:
        ports = await server.line()
        server.http, server.grpc = ports["http"], ports["grpc"]
        yield server
        assert await server.children()
        process.terminate()
        status = await asyncio.wait_for(process.wait(), PATIENCE)
        assert status == 0, f"the server ended with status {status}"
        left = server.seen & {p.pid for p in await _processes() if _CLI in p.command}
        assert not left, f"{len(left)} CLI processes are left"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass(frozen=True)
class _Process:
    """One line of ps."""

    pid: int
    parent: int
    rss_kb: int
    command: str


async def _processes() -> list[_Process]:
    ps = await asyncio.create_subprocess_exec(
        "ps", "-A", "-ww", "-o", "pid=,ppid=,rss=,args=", stdout=subprocess.PIPE
    )
    output, _ = await ps.communicate()
    found = []
    for line in output.decode(errors="replace").splitlines():
        pid, parent, rss_kb, *command = line.split(None, 3)
        found.append(_Process(int(pid), int(parent), int(rss_kb), "".join(command)))
    return found
