"""With small real children; integration/faults/test_death.py shows the CLI."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.core.claude.processes.process import Command, LineProcess
from bridge.core.system import orphan_guard, orphan_watchdog
from bridge.core.system.orphan_guard import OrphanGuard, death_signal
from bridge.core.system.orphan_watchdog import MARK, watch
from tests.support.harness import PATIENCE
from tests.support.waiting import soon

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has it")

# Starts one more in a session of its own, as the CLI does with the commands of its tools, and
# says which.
PARENT = (
    "import os, subprocess, sys\n"
    "child = subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=2)\n"
    "print(child.pid, flush=True)\n"
    "sys.stdin.read()\n"
)
# Starts one behind the death signal, says which, and waits.
WITH_DEATH_SIGNAL = """
import subprocess, sys
from bridge.core.system import orphan_guard
if sys.argv[1] == "by hand":
    orphan_guard.shutil.which = lambda name: None
prefix = orphan_guard.death_signal()
assert prefix
child = subprocess.Popen([*prefix, "/bin/sh", "-c", "echo $$; exec sleep 1000"])
print(child.pid, flush=True)
child.wait()
"""


@contextmanager
def parent(mark: str = "") -> Iterator[tuple[int, int]]:
    """A process that leads a group, and one that it started; both end with the block."""
    process = subprocess.Popen(
        (sys.executable, "-I", "-S", "-c", PARENT),
        env={**os.environ, MARK: mark} if mark else None,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process.pid, child
        finally:
            for pid in (process.pid, child):
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    status = subprocess.run(("ps", "-o", "stat=", "-p", str(pid)), capture_output=True, text=True)
    return status.stdout.strip()[:1] not in ("", "Z")


def until_gone(*pids: int) -> None:
    """Wait for the end of processes that are not children of this one."""
    for pid in pids:
        for _ in range(int(PATIENCE * 50)):
            if not alive(pid):
                break
            select.select((), (), (), 0.02)
        assert not alive(pid)


# The watchdog


def test_at_the_end_of_its_input_it_kills_the_listed_processes_and_those_with_its_mark() -> None:
    with parent("a") as (one, below_one), parent("b") as (other, below_other):
        watch([f"+{one} a\n"])
        until_gone(one, below_one)
        assert alive(other)
        assert alive(below_other)


def test_without_proc_it_finds_the_descendants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphan_watchdog, "_PROC", "/nonexistent")
    with parent("a") as (one, below_one), parent("b") as (other, below_other):
        watch([f"+{one} a\n"])
        until_gone(one, below_one)
        assert alive(other)
        assert alive(below_other)


@linux
def test_what_a_process_that_ended_has_left_behind_is_killed() -> None:
    with parent("a") as (pid, below):
        os.kill(pid, signal.SIGKILL)
        watch([f"+{pid} a\n", f"-{pid}\n"])
        until_gone(below)


@linux
def test_one_whose_environment_is_not_visible_yet_is_found_at_a_second_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    really = orphan_watchdog._environment
    asked: list[int] = []
    with parent("a") as (pid, below):

        def environment(pid: int) -> set[bytes]:
            asked.append(pid)
            return set() if pid == below and asked.count(below) == 1 else really(pid)

        monkeypatch.setattr(orphan_watchdog, "_environment", environment)
        os.kill(pid, signal.SIGKILL)
        until_gone(pid)
        watch([f"+{pid} a\n", f"-{pid}\n"])
        until_gone(below)


def test_a_process_that_ended_is_not_watched_any_more() -> None:
    with parent() as (pid, below):
        watch([f"+{pid} a\n", f"-{pid}\n", "-1\n"])
        assert alive(pid)
        assert alive(below)


@pytest.mark.parametrize("proc", ["/proc", "/nonexistent"])
@pytest.mark.parametrize("first", ["", "another time"])
def test_a_pid_that_another_process_has_by_now_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, proc: str, first: str
) -> None:
    monkeypatch.setattr(orphan_watchdog, "_PROC", proc)
    really = orphan_watchdog.born
    asked: list[int] = []

    def born(pid: int) -> str:
        asked.append(pid)
        return first if len(asked) == 1 else really(pid)

    monkeypatch.setattr(orphan_watchdog, "born", born)
    with parent() as (pid, below):
        assert really(pid)
        assert really(pid) == really(pid)
        watch([f"+{pid} a\n"])
        assert alive(pid)
        assert alive(below)


@linux
def test_it_ends_with_its_input_and_not_by_a_signal_to_all() -> None:
    process = subprocess.Popen(
        (sys.executable, "-I", "-S", orphan_watchdog.__file__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process, parent() as (pid, _):
        assert process.stdin is not None
        process.stdin.write(f"+{pid} a\n".encode())
        process.stdin.flush()
        # Once it has read that, it has taken its measures against signals: what it is told of
        # next is killed though it was sent one.
        with parent("b") as (later, below):
            process.stdin.write(f"-{later}\n+{later} b\n-{later}\n".encode())
            process.stdin.flush()
            until_gone(below)
            process.send_signal(signal.SIGTERM)
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        until_gone(pid)


# The death signal


@linux
@pytest.mark.parametrize("how", ["as found", "by hand"])
def test_a_process_behind_the_death_signal_dies_with_its_parent_and_keeps_its_pid(how: str) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", WITH_DEATH_SIGNAL, how), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        said = {int(process.stdout.readline()) for _ in range(2)}
        (pid,) = said
        assert alive(pid)
        process.kill()
    until_gone(pid)


@linux
def test_a_parent_that_is_gone_already_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    *prefix, _ = death_signal()
    # It was given another parent than it has.
    done = subprocess.run((*prefix, "1", "/bin/echo", "started"), capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")


@linux
def test_a_setpriv_that_does_not_have_the_option_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = tmp_path / "setpriv"
    lacking.write_text("#!/bin/sh\nexit 1\n")
    lacking.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert death_signal()[0] == sys.executable
    monkeypatch.setattr(sys, "executable", str(lacking))
    assert death_signal() == ()


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert death_signal() == ()


# The guard


@pytest.fixture
async def guard() -> AsyncGenerator[OrphanGuard, None]:
    async with OrphanGuard() as guard:
        yield guard


def started(guard: OrphanGuard, *argv: str) -> Command:
    return Command(argv, {"PATH": os.environ["PATH"]}, Path("/"), guard)


async def test_a_guarded_process_keeps_its_pid_and_has_its_mark(guard: OrphanGuard) -> None:
    lines: list[bytes] = []
    process = await LineProcess.start(
        started(guard, "/bin/sh", "-c", f"echo $$; echo ${{#{MARK}}}"), lines.append
    )
    pid = process.pid
    await soon(process.exited.wait())
    await process.aclose()
    assert lines == [str(pid).encode(), b"32"]


async def test_a_guarded_process_that_is_ended_takes_along_what_left_its_session(
    guard: OrphanGuard,
) -> None:
    if sys.platform != "linux":
        pytest.skip("found by its environment")
    said: asyncio.Queue[bytes] = asyncio.Queue()
    process = await LineProcess.start(started(guard, sys.executable, "-c", PARENT), said.put_nowait)
    below = int(await soon(said.get()))
    assert alive(below)
    await process.aclose()
    await asyncio.to_thread(until_gone, below)


@pytest.mark.parametrize("kind", ["missing", "a folder", "not executable"])
async def test_what_cannot_be_executed_is_an_oserror_behind_the_death_signal_too(
    guard: OrphanGuard, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "claude"
    if kind == "a folder":
        path.mkdir()
    elif kind == "not executable":
        path.touch()
        path.chmod(stat.S_IRUSR)
    with pytest.raises(OSError, match=str(path)):
        await LineProcess.start(started(guard, str(path)), lambda line: None)


async def test_a_watchdog_that_was_killed_is_replaced_and_gets_the_full_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(orphan_guard, "REVIVE_SECONDS", 0.0)
    async with OrphanGuard() as guard:
        first = guard.watchdog_pid
        assert first is not None
        with parent() as (pid, below):
            guard.began(pid, "a")
            os.kill(first, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while guard.watchdog_pid in (first, None):
                    # One whose end was not noticed yet can be reported without harm.
                    guard.began(below, "b")
                    await asyncio.sleep(0.01)
            guard.ended(below)
            await guard.__aexit__()
            until_gone(pid)


async def test_a_watchdog_that_cannot_be_started_costs_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    async with OrphanGuard() as guard:
        assert guard.watchdog_pid is None
        process = await LineProcess.start(
            started(guard, "/bin/sh", "-c", "true"), lambda line: None
        )
        await soon(process.exited.wait())
        await process.aclose()
    assert caplog.text.count("not watched") == 1
