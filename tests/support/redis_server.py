"""A real Redis for tests, on loopback, without persistence."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from bridge.core.redis import link
from tests.support.paths import ROOT

_SECONDS = 60.0
"""For a start, an end or a command; far more than it takes."""
_IN_PRODUCTION = link.COMMAND_SECONDS


patient = patch.object(link, "COMMAND_SECONDS", _SECONDS)
"""Has a slow machine not be taken for a stalled Redis, in this process."""


class RedisServer:
    """A redis-server that can be stopped, killed, stalled and started again, at the same place."""

    def __init__(
        self,
        folder: Path,
        *,
        unix: bool = False,
        tls: bool = False,
        options: tuple[str, ...] = (),
    ) -> None:
        """Use `folder`; `options` are further ones of redis-server, such as `--requirepass x`."""
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.port = 0 if unix else _free_port()
        self.socket = folder / "redis.sock"
        ports = ("--port", "0", "--tls-port") if tls else ("--port",)
        place = ("--unixsocket", str(self.socket)) if unix else ("--bind", "127.0.0.1")
        self._command = (
            *(program, *ports, str(self.port), *place, "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", *options),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._short = ExitStack()

    @property
    def url(self) -> str:
        """For BRIDGE_REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, empty, and wait until it listens."""
        assert self._process is None
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        end = time.monotonic() + _SECONDS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError((self._folder / "redis.log").read_text()[-2000:])
            time.sleep(0.01)

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once: connections break, and its data is lost."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again, empty."""
        self.kill()
        self.start()

    def stall(self) -> None:
        """Keep it from doing anything: it still accepts connections, but does not answer.

        Meanwhile, commands have as little time as in production.
        """
        self._short.enter_context(patch.object(link, "COMMAND_SECONDS", _IN_PRODUCTION))
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stalled one continue."""
        self._short.close()
        self._running.send_signal(signal.SIGCONT)

    def restore(self) -> None:
        """Let it run, whatever has been done to it."""
        if self._process is None:
            self.start()
        else:
            self.resume()

    def command(self, *words: str) -> str:
        """Send a command without a login, and return the reply as the protocol has it."""
        sent = b"".join([b"*%d\r\n" % len(words), *map(_bulk, words)])
        with self._connected() as connection:
            connection.sendall(sent)
            return connection.recv(1 << 20).decode()

    def documented_user(self) -> str:
        """Create the user of docs/redis.md, and return the URL with its login."""
        lines = re.findall("^ACL .*$", (ROOT / "docs" / "redis.md").read_text(), re.MULTILINE)
        assert lines
        for line in lines:
            assert self.command(*line.split()) == "+OK\r\n"
        return self.url.replace("//", "//bridge:PASSWORD@", 1)

    def close(self) -> None:
        """End it if it runs."""
        if self._process is not None:
            self.kill()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it does not run"
        return self._process

    def _end(self, how: signal.Signals) -> None:
        self._short.close()
        process, self._process = self._running, None
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        process.wait(_SECONDS)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), self._connected():
            return True
        return False

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        family = socket.AF_INET if self.port else socket.AF_UNIX
        with socket.socket(family) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(("127.0.0.1", self.port) if self.port else str(self.socket))
            yield connection


def _bulk(word: str) -> bytes:
    data = word.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
