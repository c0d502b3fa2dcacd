"""Node's clients of both APIs, each in a process of its own: their cost is not the server's."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT
from benchmarks.subjects.base import FailedError, NotSupportedError

READER = ROOT / "benchmarks" / "node"
INSTALL_SECONDS = 300.0
ANSWER_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a client saw of its answers."""

    chunks: int
    rate: float
    """Chunks a second, from the first one on."""
    gap: float
    """Milliseconds between two pieces of an answer, p95."""


class NodeClient:
    """Reads several answers at once, again and again, with one client."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(
        cls, name: str, api: str, address: str, streams: int, prompt: str, folder: Path
    ) -> NodeClient:
        """Start a client and let it ask once; `folder` is that of `installed`."""
        process = await asyncio.create_subprocess_exec(
            *("node", "reader.mjs", api, address, str(streams), prompt, "Be brief.", "protos"),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        client = cls(name, process)
        try:
            if await client._line() != "ready":
                raise FailedError(f"{name}: no answer")
        except BaseException:
            await client.aclose()
            raise
        return client

    async def ask(self) -> Measured:
        """Read the answers once more."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return Measured(**json.loads(await self._line()))

    async def aclose(self) -> None:
        """End the client."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise FailedError(f"{self.name}: the client ended")
        return line.decode().strip()


async def installed(folder: Path) -> Path:
    """Install the client in a folder; raises NotSupportedError where that is not possible."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotSupportedError("Node is not installed")
    target = folder / "node"
    shutil.copytree(READER, target, ignore=shutil.ignore_patterns("node_modules"))
    protos = (sys.executable, "-m", "bridge", "protos", str(target / "protos"))
    await asyncio.to_thread(subprocess.run, protos, stdout=subprocess.DEVNULL, check=True)
    process = await asyncio.create_subprocess_exec(
        *(npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"),
        cwd=target,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(INSTALL_SECONDS):
            _, errors = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise NotSupportedError("npm install takes too long") from error
    if process.returncode != 0:
        raise NotSupportedError(f"npm install failed: {errors.decode()[-200:]}")
    return target
