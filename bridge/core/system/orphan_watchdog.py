"""A program that kills the processes that a killed server leaves behind.

It reads lines on stdin: `+PID MARK` when a process began, `-PID` when one ended. The end of its
input means that the server is gone, whatever the cause: the kernel closes the pipe. It then kills
what is left, and exits. It is run by its path and without `site` to save resources, and imports
only the standard library.

The children of a process are killed with it: its process group and, if the system exposes the
environment of processes (Linux), everything with its mark, since the CLI runs the commands of its
tools in sessions of their own. On other systems those are found as its descendants, as long as it
lives.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator

MARK = "CLAUDE_CODE_BRIDGE_PROCESS"
"""The environment variable shared by a process and all its descendants."""

_PROC = "/proc"
_ROUNDS = 100
_CALM_ROUNDS = 2
_ROUND_SECONDS = 0.02


def main() -> None:
    """Watch until the input ends."""
    # It ends only with its input, whatever signals are sent to all processes of a service.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)


def watch(lines: Iterable[str]) -> None:
    """Process the lines, and at their end kill what is left."""
    watched: dict[int, tuple[str, str]] = {}
    for line in lines:
        first, _, mark = line[1:].strip().partition(" ")
        pid = int(first)
        if line.startswith("+"):
            watched[pid] = (mark, born(pid))
        elif pid in watched:
            mark, _ = watched.pop(pid)
            kill_marked({mark})
    for pid, (_, at) in watched.items():
        # A pid that was reused by another process is left alone.
        if born(pid) in ("", at):
            kill_with_descendants(pid)
    kill_marked({mark for mark, _ in watched.values()})


def born(pid: int) -> str:
    """Return when a process started, in the system's format; empty if there is no such process."""
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            # The name before it may contain spaces and brackets.
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        pass
    return "" if _has_proc() else _ps("-o", "lstart=", "-p", str(pid)).strip()


def kill_marked(marks: set[str]) -> None:
    """Kill every process that has one of the marks in its environment."""
    wanted = {f"{MARK}={mark}".encode() for mark in marks if mark}
    # Repeat until none is left: one may have started another meanwhile, and while a program is
    # being started, the system briefly exposes no environment for it.
    calm = 0
    for _ in range(_ROUNDS):
        found = [pid for pid in _pids() if wanted & _environment(pid)]
        for pid in found:
            _kill(pid)
        calm = 0 if found else calm + 1
        if calm == _CALM_ROUNDS:
            return
        time.sleep(_ROUND_SECONDS)


def kill_with_descendants(pid: int) -> None:
    """Kill a process group and its leader's descendants, in whatever session.

    The descendants of a leader that has already ended can no longer be found.
    """
    children: dict[int, list[int]] = {}
    for line in _ps("-A", "-o", "pid=,ppid=").splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    below = children.get(pid, [])
    while below:
        for child in below:
            _kill(child)
        below = [grandchild for child in below for grandchild in children.get(child, [])]


def _has_proc() -> bool:
    return os.path.exists(f"{_PROC}/self/environ")


def _pids() -> Iterator[int]:
    if _has_proc():
        yield from (int(name) for name in os.listdir(_PROC) if name.isdigit())


def _environment(pid: int) -> set[bytes]:
    try:
        with open(f"{_PROC}/{pid}/environ", "rb") as file:
            return set(file.read().split(b"\0"))
    except OSError:
        return set()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _ps(*arguments: str) -> str:
    # It takes half of the memory, and is needed at the end only, or if there is no /proc.
    import subprocess

    try:
        return subprocess.run(
            ["ps", *arguments], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return ""


if __name__ == "__main__":
    main()
