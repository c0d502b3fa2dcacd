"""Uses small real children of `sh` and of this Python; never the CLI."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from bridge.core.claude.processes import process as process_module
from bridge.core.claude.processes.process import Command, LineProcess, ProcessGoneError
from tests.support.harness import PATIENCE
from tests.support.waiting import soon


class Lines:
    """Collects lines, and lets a test wait for them."""

    def __init__(self) -> None:
        self._seen: list[bytes] = []
        self._more = asyncio.Event()

    def __call__(self, line: bytes) -> None:
        self._seen.append(line)
        self._more.set()

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def all(self) -> list[bytes]:
        return list(self._seen)

    async def first(self, count: int) -> list[bytes]:
        while len(self._seen) < count:
            self._more.clear()
            await soon(self._more.wait())
        return self._seen[:count]


Start: TypeAlias = Callable[..., Awaitable[tuple[LineProcess, Lines]]]


def command(argv: Sequence[str], **env: str) -> Command:
    return Command(argv, {"PATH": os.environ["PATH"], **env}, Path("/"))


def sh(script: str) -> Command:
    return command(("/bin/sh", "-c", script))


def python(script: str) -> Command:
    return command((sys.executable, "-I", "-S", "-c", script))


@pytest.fixture
async def start() -> AsyncGenerator[Start, None]:
    """Start a child that is ended with the test."""
    async with AsyncExitStack() as stack:

        async def starts(
            what: Command, on_exit: Callable[[], None] | None = None
        ) -> tuple[LineProcess, Lines]:
            lines = Lines()
            process = await LineProcess.start(what, lines, on_exit)
            stack.push_async_callback(lambda: soon(process.aclose()))
            return process, lines

        yield starts


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


async def until_closed(fifo: Path, process: LineProcess, lines: Lines) -> None:
    """Wait until the writing end of a FIFO is closed; a child opens it and reports that."""
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def readable() -> None:
        if not os.read(reading, 100):
            over.set()

    try:
        process_lines = await lines.first(1)
        assert process_lines == [b"open"]
        loop.add_reader(reading, readable)
        process.kill()
        await soon(over.wait())
    finally:
        loop.remove_reader(reading)
        os.close(reading)


async def ended(process: LineProcess) -> None:
    for _ in range(int(PATIENCE * 100)):
        if process.exit_code is not None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not end")


# Output


async def test_each_line_is_handed_on_without_its_end_and_empty_ones_are_not(start: Start) -> None:
    process, lines = await start(sh(r"printf 'one\n\ntwo\nthree\n'"))
    await soon(process.exited.wait())
    assert lines.all == [b"one", b"two", b"three"]


async def test_a_line_that_comes_in_pieces_is_one_line(start: Start) -> None:
    # Each piece is sent only after the previous one was received, as acknowledged on stdin.
    process, lines = await start(
        python(
            "import os\n"
            "for piece in (b'a\\n{\"x\":', b' 1', b'2}', b'\\nb\\n'):\n"
            "    os.write(1, piece)\n"
            "    os.read(0, 1)\n"
        )
    )
    await lines.first(1)
    for _ in range(4):
        await process.write(b".")
    await soon(process.exited.wait())
    assert lines.all == [b"a", b'{"x": 12}', b"b"]


def test_lines_are_the_same_however_they_are_cut_into_chunks() -> None:
    data = b'{"a":1}\n\n{"bb":"\xc3\xbc"}\nlast\n'
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            seen: list[bytes] = []
            process = LineProcess(seen.append)
            for chunk in (data[:first], data[first:second], data[second:]):
                if chunk:
                    process.pipe_data_received(1, chunk)
            assert seen == [b'{"a":1}', b'{"bb":"\xc3\xbc"}', b"last"]


async def test_a_long_line_arrives_whole(start: Start) -> None:
    size = 5_000_000
    process, lines = await start(python(f"print('x' * {size}); print('end')"))
    await soon(process.exited.wait())
    assert [len(line) for line in lines.all] == [size, 3]


async def test_a_line_without_an_end_is_no_line(start: Start) -> None:
    process, lines = await start(sh(r"printf 'one\ntw'"))
    await soon(process.exited.wait())
    assert lines.all == [b"one"]


async def test_an_over_long_line_ends_the_process_and_no_part_of_it_is_a_line(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "MAX_LINE_BYTES", 1_000)
    process, lines = await start(
        python("import os, sys\nos.write(1, b'first\\n')\nwhile True: os.write(1, b'x' * 1000)\n")
    )
    await soon(process.exited.wait())
    assert process.exit_code == -signal.SIGKILL
    assert lines.all == [b"first"]


def test_the_rest_of_an_over_long_line_is_no_line_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "MAX_LINE_BYTES", 10)
    seen: list[bytes] = []
    process = LineProcess(seen.append)
    monkeypatch.setattr(LineProcess, "pid", 1)
    for chunk in (b"ok\n", b"x" * 20, b'{"half":1}\n', b"{}\n"):
        process.pipe_data_received(1, chunk)
    assert seen == [b"ok"]
    assert not process.alive


async def test_a_reader_that_pauses_gets_everything_later(start: Start) -> None:
    process, lines = await start(
        python("import os; os.read(0, 1); print('a', flush=True); os.read(0, 1); print('b')")
    )
    await process.write(b".")
    await lines.first(1)
    process.pause_reading()
    process.pause_reading()
    await process.write(b".")
    process.resume_reading()
    process.resume_reading()
    assert await lines.first(2) == [b"a", b"b"]


# stderr


async def test_the_last_lines_of_stderr_are_kept_for_the_log_and_are_no_output(
    start: Start,
) -> None:
    process, lines = await start(
        sh("i=0; while [ $i -lt 100 ]; do echo line $i >&2; i=$((i+1)); done; echo out")
    )
    await soon(process.exited.wait())
    assert lines.all == [b"out"]
    tail = process.stderr_tail.splitlines()
    assert tail == [f"line {n}" for n in range(80, 100)]


async def test_a_flood_on_stderr_is_cut_and_bytes_that_are_no_text_do_no_harm(start: Start) -> None:
    process, _ = await start(
        python("import os\nfor _ in range(50): os.write(2, b'\\xff' * 100_000 + b'\\n')\n")
    )
    await soon(process.exited.wait())
    assert 0 < len(process.stderr_tail) <= 20 * 2_001


async def test_a_child_without_output_on_stderr_has_no_last_words(start: Start) -> None:
    process, _ = await start(sh("true"))
    await soon(process.exited.wait())
    assert process.stderr_tail == ""


# The start


async def test_the_child_has_exactly_the_environment_and_the_folder_it_was_given(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "1")
    script = "import os; print(sorted(os.environ)); print(os.path.samefile('.', os.environ['A']))"
    argv = (sys.executable, "-I", "-S", "-c", script)
    process, lines = await start(
        Command(argv, {"A": str(tmp_path), "LC_CTYPE": "C.UTF-8"}, tmp_path)
    )
    await soon(process.exited.wait())
    assert lines.all == [b"['A', 'LC_CTYPE']", b"True"]


@pytest.mark.parametrize("argv", [("/nonexistent/claude",), ("/",)])
async def test_what_cannot_be_executed_is_an_oserror(argv: tuple[str, ...]) -> None:
    with pytest.raises(OSError, match="/"):
        await LineProcess.start(command(argv), lambda line: None)


async def test_a_folder_that_is_gone_is_an_oserror(tmp_path: Path) -> None:
    what = Command(("/bin/sh", "-c", "true"), {}, tmp_path / "gone")
    with pytest.raises(OSError, match="gone"):
        await LineProcess.start(what, lambda line: None)


# Input


async def test_what_is_written_arrives(start: Start) -> None:
    process, lines = await start(sh("exec cat"))
    await process.write(b"one\ntwo\n")
    assert await lines.first(2) == [b"one", b"two"]
    await process.write(b"three\n")
    assert (await lines.first(3))[2] == b"three"


async def test_writing_waits_for_a_child_that_does_not_read(start: Start) -> None:
    size = 4_000_000
    # It starts to read only after the signal.
    process, lines = await start(
        python(
            "import signal, sys\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
            "print('ready', flush=True)\n"
            "signal.sigwait([signal.SIGUSR1])\n"
            "print(len(sys.stdin.readline()))\n"
        )
    )
    await lines.first(1)
    writing = asyncio.create_task(process.write(b"x" * size + b"\n"))
    done, _ = await asyncio.wait({writing}, timeout=0)
    assert not done
    os.kill(process.pid, signal.SIGUSR1)
    await soon(writing)
    assert (await lines.first(2))[1] == str(size + 1).encode()


async def test_writing_to_a_child_that_ended_raises(start: Start) -> None:
    process, _ = await start(sh("true"))
    await soon(process.exited.wait())
    with pytest.raises(ProcessGoneError):
        await process.write(b"x\n")


async def test_writing_after_the_input_was_closed_raises(start: Start) -> None:
    process, _ = await start(sh("exec cat"))
    process.close_input()
    with pytest.raises(ProcessGoneError):
        await process.write(b"x\n")


async def test_a_write_that_waits_ends_with_the_process(start: Start) -> None:
    process, lines = await start(sh("echo ready; exec sleep 1000"))
    await lines.first(1)
    writing = asyncio.create_task(process.write(b"x" * 4_000_000))
    await asyncio.wait({writing}, timeout=0)
    process.kill()
    with pytest.raises(ProcessGoneError):
        await soon(writing)


# The end


async def test_a_child_is_alive_until_it_ended_and_then_has_an_exit_code(start: Start) -> None:
    process, _ = await start(sh("read line; exit 3"))
    assert (process.alive, process.exit_code) == (True, None)
    await process.write(b"\n")
    await soon(process.exited.wait())
    assert (process.alive, process.exit_code) == (False, 3)


async def test_the_end_is_reported_once_and_after_all_output() -> None:
    lines_at_exit: list[int] = []
    lines = Lines()
    process = await LineProcess.start(
        python("print('x\\n' * 200_000, end='')"), lines, lambda: lines_at_exit.append(len(lines))
    )
    await soon(process.exited.wait())
    await process.aclose()
    process.kill()
    await process.aclose()
    assert lines_at_exit == [200_000]


async def test_an_end_without_a_callback_is_fine(start: Start) -> None:
    process, _ = await start(sh("true"))
    await soon(process.exited.wait())


async def test_kill_ends_the_child_at_once_though_it_ignores_other_signals(start: Start) -> None:
    process, lines = await start(sh("trap '' TERM INT HUP; echo ready; read line"))
    await lines.first(1)
    process.kill()
    process.kill()
    await soon(process.exited.wait())
    assert process.exit_code == -signal.SIGKILL


async def test_kill_ends_what_the_child_started_too(start: Start, fifo: Path) -> None:
    # The grandchild alone holds the FIFO open.
    process, lines = await start(
        sh(f"sh -c 'exec 9>{fifo}; echo open; exec sleep 1000' & exec 0<&-; wait")
    )
    await until_closed(fifo, process, lines)
    await soon(process.exited.wait())


async def test_a_child_that_ends_takes_along_what_it_started_and_its_end_is_reported(
    start: Start,
) -> None:
    # The grandchild holds the child's stdout open.
    told = asyncio.Event()
    process, lines = await start(sh("sleep 1000 & echo $!; read line; exit 0"), on_exit=told.set)
    (grandchild,) = await lines.first(1)
    try:
        await process.write(b"\n")
        await soon(told.wait())
        await soon(process.aclose())
    finally:
        # It still exists only if the test fails.
        if not process.exited.is_set():
            os.kill(int(grandchild), signal.SIGKILL)
    assert process.exit_code == 0


async def test_nothing_is_handed_on_after_a_kill_not_even_what_came_in_the_same_piece() -> None:
    seen: list[bytes] = []

    def kill_at_first(line: bytes) -> None:
        seen.append(line)
        process.kill()

    process = LineProcess(kill_at_first)
    await process.launch(python("import os; os.write(1, b'a\\nb\\n'); os.read(0, 1)"))
    await soon(process.exited.wait())
    await process.aclose()
    assert seen == [b"a"]


async def test_a_child_has_a_group_of_its_own_so_that_ctrl_c_does_not_reach_it(
    start: Start,
) -> None:
    process, _ = await start(sh("read line"))
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


async def test_aclose_ends_a_child_that_would_not_end_by_itself(start: Start) -> None:
    process, _ = await start(sh("exec sleep 1000"))
    await soon(process.aclose())
    assert process.exited.is_set()
    assert process.exit_code == -signal.SIGKILL


async def test_aclose_with_grace_lets_a_child_end_by_itself(start: Start) -> None:
    process, lines = await start(
        sh("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 1; done")
    )
    await lines.first(1)
    await soon(process.aclose(grace=60))
    assert process.exit_code == 7
    assert lines.all == [b"ready", b"bye"]


async def test_aclose_with_grace_kills_a_child_that_does_not_use_it(start: Start) -> None:
    process, lines = await start(sh("trap '' TERM; echo ready; exec sleep 1000"))
    await lines.first(1)
    await soon(process.aclose(grace=0.001))
    assert process.exit_code == -signal.SIGKILL


async def test_aclose_returns_though_reading_was_paused_with_the_pipe_full(start: Start) -> None:
    process, lines = await start(
        python("import os\nwhile True: os.write(1, b'x' * 100 + b'\\n')\n")
    )
    await lines.first(1)
    process.pause_reading()
    await soon(process.aclose())
    assert process.exited.is_set()


@pytest.mark.parametrize("ends", ["by itself", "when it is closed"])
async def test_aclose_returns_though_what_left_the_session_holds_the_pipes(
    start: Start, ends: str
) -> None:
    process, lines = await start(
        python(
            "import subprocess, sys\n"
            "child = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
            "print(child.pid, flush=True)\n"
            "sys.stdin.readline()\n"
        )
    )
    (left,) = await lines.first(1)
    try:
        if ends == "by itself":
            # More than a pipe holds, and nothing reads it.
            writing = asyncio.ensure_future(process.write(b"\n" * 1_000_000))
            await ended(process)
            await soon(process.aclose())
            with pytest.raises(ProcessGoneError):
                await soon(writing)
        await soon(process.aclose())
    finally:
        os.kill(int(left), signal.SIGKILL)
    assert process.exit_code == (0 if ends == "by itself" else -signal.SIGKILL)


async def test_a_child_may_end_in_the_moment_in_which_its_input_is_lost() -> None:
    problems: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: problems.append(str(context)))
    process = await LineProcess.start(sh("exec sleep 1000"), Lines())
    stdin = process._stdin()
    assert stdin is not None
    stdin.abort()
    # The pipe is closed, and that was not reported yet.
    await asyncio.sleep(0)
    process.kill()
    process.process_exited()
    await soon(process.aclose())
    loop.set_exception_handler(None)
    assert problems == []


async def test_aclose_of_a_child_that_ended_returns(start: Start) -> None:
    process, _ = await start(sh("true"))
    await soon(process.exited.wait())
    await soon(process.aclose())
    await soon(process.aclose())


async def test_pausing_and_killing_after_the_end_is_fine(start: Start) -> None:
    process, _ = await start(sh("true"))
    await soon(process.exited.wait())
    process.pause_reading()
    process.resume_reading()
    process.close_input()
    process.kill()
