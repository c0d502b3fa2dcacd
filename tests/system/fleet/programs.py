"""The programs of a fleet, each a process on loopback: they are stopped, killed and paused."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.harness import PATIENCE

_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections: a server that returns finds its own."""


def lasting_port() -> int:
    """A free port that stays free while the server on it is away."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def eventually(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait until it holds; `what` says what did not come."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"not within {PATIENCE:g} s: {what()}"
        time.sleep(0.05)


@dataclass
class Program:
    """A program that can be started several times; what it prints is kept."""

    folder: Path
    command: Sequence[str | Path]
    environment: Mapping[str, str]
    _running: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def output(self) -> str:
        """What it has printed, over all its starts."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    @property
    def _output(self) -> Path:
        return self.folder / "output"

    @property
    def running(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def start(self) -> None:
        assert not self.running
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._output.open("ab") as output:
            self._running = subprocess.Popen(
                [str(part) for part in self.command],
                cwd=self.folder,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def signal(self, number: int) -> None:
        assert self._running is not None
        self._running.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; return its exit status."""
        assert self._running is not None
        return self._running.wait(PATIENCE)

    def stop(self) -> int:
        """Ask it to stop, and wait for that."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.ended()

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.running:
            self.signal(signal.SIGCONT)
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def accepting(self, port: int) -> None:
        """Wait until it accepts connections."""

        def connects() -> bool:
            assert self.running, self.output
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionError:
                return False
            return True

        eventually(connects, lambda: f"{self.command[0]} accepts connections")


def left_behind(folder: Path) -> list[str]:
    """The processes that have this folder in their environment: those of its programs."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in environment and command:
            processes.append(f"{entry.name} {command.decode(errors='replace')[:80]}")
    return processes
