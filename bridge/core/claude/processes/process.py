"""One child process that exchanges lines of JSON over stdin and stdout.

Plain I/O: starts it, splits its output into lines, writes its input, ends it. The content of the
lines is not interpreted. Lines are passed on by a callback and not by a queue, since every token of
every answer passes here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import stat
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.core.system import MARK, OrphanGuard

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line on stdout is treated as a fault of the process, which is then terminated."""

_STDERR_LINES = 20
_STDERR_LINE_BYTES = 2_000


class ProcessGoneError(Exception):
    """The process has ended, or its input is closed."""

    cause = ""
    """The cause, in a sentence for callers; empty if unknown."""
    for_log = ""
    """The cause, for the server's log."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a process: none of the server's own environment is added."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    guard: OrphanGuard | None = None
    """Ends the process if the server is killed. Then `argv[0]` is a path, and its mark is added to
    `env`."""


class LineProcess(asyncio.SubprocessProtocol):
    """A running child. Start one with `start`; call `aclose` in the end."""

    def __init__(
        self, on_line: Callable[[bytes], None], on_exit: Callable[[], None] | None = None
    ) -> None:
        self._on_line = on_line
        self._on_exit = on_exit
        self._tail = bytearray()
        self._transport: asyncio.SubprocessTransport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._output_over = False
        self._killed = False
        self._exit_code: int | None = None
        self._guard: OrphanGuard | None = None
        self._mark = ""
        self.exited = asyncio.Event()
        """Set when the process has ended and all of its output was passed on."""

    @classmethod
    async def start(
        cls,
        command: Command,
        on_line: Callable[[bytes], None],
        on_exit: Callable[[], None] | None = None,
    ) -> LineProcess:
        """Start the command; raises OSError if it cannot be executed."""
        process = cls(on_line, on_exit)
        await process.launch(command)
        return process

    async def launch(self, command: Command) -> None:
        """Start the command; raises OSError if it cannot be executed.

        Its first lines, and even its end, can arrive before this returns.
        """
        argv, env = command.argv, dict(command.env)
        if command.guard is not None:
            self._guard = command.guard
            env[MARK] = self._mark = command.guard.new_mark()
            if command.guard.prefix:
                # The prefix is started first, so the system would not report this.
                _check_executable(argv[0])
                argv = (*command.guard.prefix, *argv)
        await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            *argv,
            env=env,
            cwd=command.cwd,
            # A Ctrl-C in the terminal is for the server, which ends its children itself.
            start_new_session=True,
        )

    # asyncio.SubprocessProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        if self._guard is not None:
            self._guard.began(self.pid, self._mark)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._stdout(data)
        else:
            for line in data[-_STDERR_LINES * _STDERR_LINE_BYTES :].splitlines():
                self._stderr.append(line[:_STDERR_LINE_BYTES].decode("utf-8", "replace"))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self._writable.set()
        elif fd == 1:
            self._output_over = True
            if self._exit_code is None:
                # Its output can no longer be read; if it kept running, it would be waited for.
                self._kill_group()

    def process_exited(self) -> None:
        assert self._transport is not None
        self._exit_code = self._transport.get_returncode()
        # Its own children end with it: they would hold the pipes open, so that the end of the
        # process would never be reported.
        self._kill_group()
        if self._guard is not None:
            self._guard.ended(self.pid)
        if self._killed:
            self._close_pipes()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        self.exited.set()
        if self._on_exit is not None:
            self._on_exit()

    def pause_writing(self) -> None:
        """Called by asyncio when the process does not read its input."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by asyncio when the process reads again."""
        self._writable.set()

    def _stdout(self, data: bytes) -> None:
        if self._output_over:
            return
        if b"\n" not in data:
            self._tail += data
            if len(self._tail) > MAX_LINE_BYTES:
                logger.error("terminating process %s: it wrote an over-long line", self.pid)
                self._tail.clear()
                self.kill()
            return
        lines = data.split(b"\n")
        if self._tail:
            lines[0] = bytes(self._tail) + lines[0]
            self._tail.clear()
        self._tail += lines.pop()
        for line in lines:
            if line and not self._output_over:
                self._on_line(line)

    # Methods for the owner

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._transport is not None
        return self._transport.get_pid()

    @property
    def alive(self) -> bool:
        """Whether it may still answer."""
        return self._exit_code is None and not self._output_over and not self.exited.is_set()

    @property
    def exit_code(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._exit_code

    @property
    def stderr_tail(self) -> str:
        """Its last lines on stderr: for the server's log, never for a caller."""
        return "\n".join(self._stderr)

    async def write(self, data: bytes) -> None:
        """Send bytes to its input; raises ProcessGoneError if it no longer reads."""
        stdin = self._stdin()
        if stdin is None or stdin.is_closing() or not self.alive:
            raise ProcessGoneError
        stdin.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if stdin.is_closing() or not self.alive:
                raise ProcessGoneError

    def pause_reading(self) -> None:
        """Leave its output in the pipe."""
        stdout = self._pipe(1)
        if isinstance(stdout, asyncio.ReadTransport) and stdout.is_reading():
            stdout.pause_reading()

    def resume_reading(self) -> None:
        """Read its output again."""
        stdout = self._pipe(1)
        if isinstance(stdout, asyncio.ReadTransport) and not stdout.is_reading():
            stdout.resume_reading()

    def kill(self) -> None:
        """Kill it (SIGKILL) with all its children; no more lines are passed on."""
        self._output_over = self._killed = True
        if self._exit_code is not None:
            self._close_pipes()
        elif self._transport is not None:
            self._kill_group()

    def _kill_group(self) -> None:
        # It leads its own process group (start_new_session).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _close_pipes(self) -> None:
        """Close the pipes of a process that has ended: its children may hold them open."""
        if self._transport is None or self.exited.is_set():
            return
        stdin = self._stdin()
        # A closed pipe may not be aborted, unless it still has data to write.
        if stdin is not None and (not stdin.is_closing() or stdin.get_write_buffer_size()):
            stdin.abort()
        self._transport.close()

    def close_input(self) -> None:
        """Close its stdin."""
        stdin = self._stdin()
        if stdin is not None:
            stdin.close()

    async def aclose(self, grace: float = 0.0) -> None:
        """End it and wait: with SIGTERM, and with SIGKILL after `grace` seconds."""
        if grace > 0 and self.alive:
            # Only to the process itself; its children are killed after it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.exited.wait()
        self.kill()
        await self.exited.wait()
        if self._transport is not None:
            self._transport.close()

    def _pipe(self, fd: int) -> asyncio.BaseTransport | None:
        return None if self._transport is None else self._transport.get_pipe_transport(fd)

    def _stdin(self) -> asyncio.WriteTransport | None:
        pipe = self._pipe(0)
        return pipe if isinstance(pipe, asyncio.WriteTransport) else None


def _check_executable(path: str) -> None:
    """Raise the OSError that executing the file would raise, in the common cases."""
    if stat.S_ISDIR(os.stat(path).st_mode) or not os.access(path, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
