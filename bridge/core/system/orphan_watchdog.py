"""A program that ends the processes that a killed server leaves behind.

It reads lines on stdin: `+PID MARK` when a process began, `-PID` when one ended. The end of its
input means that the server is gone, however that came about: the kernel closes the pipe. It then
kills what is left, and ends. Run by its path and without `site`, so that it costs little: it
imports nothing but the standard library.

What a process has started ends with it: its process group, and where the system tells the
environment of a process (Linux), everything that has its mark in it, since the CLI runs the
commands of its tools in sessions of their own. Elsewhere those are found as its descendants, as
long as it lives.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator

MARK = "CLAUDE_CODE_BRIDGE_PROCESS"
"""The environment variable that a process and all that it starts have in common."""

_PROC = "/proc"
_ROUNDS = 100
_CALM_ROUNDS = 2
_ROUND_SECONDS = 0.02


def main() -> None:
    """Watch until the input ends."""
    # It ends with its input and not before, whatever is sent to all processes of a service.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin)


def watch(lines: Iterable[str]) -> None:
    """Do what the lines say, and at their end kill what is left."""
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
        # A pid that somebody else has by now is left alone.
        if born(pid) in ("", at):
            kill_with_descendants(pid)
    kill_marked({mark for mark, _ in watched.values()})


def born(pid: int) -> str:
    """When a process started, in whatever form the system says it; empty where there is none."""
    try:
        with open(f"{_PROC}/{pid}/stat", "rb") as file:
            # The name before it may hold spaces and brackets.
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        pass
    return "" if _has_proc() else _ps("-o", "lstart=", "-p", str(pid)).strip()


def kill_marked(marks: set[str]) -> None:
    """Kill every process that has one of the marks in its environment."""
    wanted = {f"{MARK}={mark}".encode() for mark in marks if mark}
    # Again until none is left: one may have started another meanwhile, and for a moment while a
    # program is started the system tells no environment of it.
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
    """Kill a process group, and what its leader has started, whatever session that is in.

    Of a leader that has ended already, nobody can say any more what it has started.
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
    # It takes half of the memory, and is needed at the end only, or where there is no /proc.
    import subprocess

    try:
        return subprocess.run(
            ["ps", *arguments], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return ""


if __name__ == "__main__":
    main()
