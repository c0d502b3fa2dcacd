"""Files that an ended process of the CLI in the pinned SDK leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bridge.core.claude.processes.launch import Launcher, hermetic_environment
from bridge.core.claude.processes.leftovers import Leftovers
from bridge.core.claude.session import Session
from bridge.core.claude.turn_settings import Profile
from bridge.core.claude.turns import Turn
from bridge.core.contract.request import Role
from bridge.server.launching import bundled_cli
from bridge.simulator import Simulator
from tests.support.harness import sim
from tests.support.waiting import soon


@pytest.fixture(scope="module")
async def simulator() -> AsyncGenerator[Simulator, None]:
    async with Simulator(pace_ms=0) as simulator:
        yield simulator


class Home:
    """Return the folders of a process and the entries with its process id."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.folder = folder
        self.sessions = folder / "home" / ".claude" / "sessions"
        self.sockets = folder / "tmp" / "cc-socks"
        for name in ("home", "tmp", "work"):
            (folder / name).mkdir()
        env = hermetic_environment(os.environ, folder / "home", simulator.base_url)
        self.environment = {**env, "TMPDIR": str(folder / "tmp")}
        self.launcher = Launcher(bundled_cli(), self.environment, folder / "work")

    def of(self, pid: int) -> list[str]:
        folders = (self.sessions, self.sockets)
        found = [path for folder in folders if folder.exists() for path in folder.iterdir()]
        return sorted(path.suffix for path in found if path.name.startswith(f"{pid}."))

    async def session(self) -> Session:
        """Return a session whose process has registered itself, which it does after booting."""
        session = await Session.spawn(self.launcher)
        while len(self.of(session.pid)) < 3:
            assert session.alive
            await asyncio.sleep(0.02)
        return session


@pytest.fixture
def home(simulator: Simulator) -> Iterator[Home]:
    # The path of a socket may have about a hundred characters.
    with TemporaryDirectory(prefix="b-", dir="/tmp") as folder:
        yield Home(Path(folder), simulator)


async def test_killed_it_leaves_two_files_and_a_socket(home: Home) -> None:
    session = await soon(home.session())
    pid = session.pid
    session.kill()
    await soon(session._transport.process.exited.wait())
    assert home.of(pid) == [".json", ".key", ".sock"]
    await soon(session.close())
    assert home.of(pid) == []


async def test_closed_it_ends_by_itself_and_leaves_nothing(home: Home) -> None:
    session = await soon(home.session())
    process = session._transport.process
    # So that only the CLI can remove them.
    session._transport._leftovers = None
    await soon(session.close())
    assert process.exit_code == 128 + signal.SIGTERM
    assert home.of(process.pid) == []


async def test_in_the_middle_of_a_turn_it_is_killed_and_nothing_is_left(home: Home) -> None:
    session = await soon(home.session())
    await soon(session.initialise(Profile("You are a test.")))
    endless = {"type": "text", "text": sim(endless=True, delay_ms=20)}
    await soon(session.ask(Turn(Role.USER, (endless,))))
    await soon(session.receive())
    process = session._transport.process
    await soon(session.close())
    assert process.exit_code == -signal.SIGKILL
    assert home.of(process.pid) == []


async def test_one_that_is_wedged_gets_no_time_and_leaves_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await soon(home.session())
    process = session._transport.process
    os.kill(process.pid, signal.SIGSTOP)
    assert not await soon(session.answers_within(0.1))
    # Any wait would be for ever.
    monkeypatch.setattr("bridge.core.claude.control.END_SECONDS", 1e6)
    await soon(session.close())
    assert process.exit_code == -signal.SIGKILL
    assert home.of(process.pid) == []


async def test_one_that_does_not_end_by_itself_is_killed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await soon(home.session())
    process = session._transport.process
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setattr("bridge.core.claude.control.END_SECONDS", 0.05)
    await soon(session.close())
    assert process.exit_code == -signal.SIGKILL
    assert home.of(process.pid) == []


def test_what_belongs_to_others_stays(home: Home) -> None:
    home.sessions.mkdir(parents=True)
    home.sockets.mkdir(parents=True)
    own = Leftovers.of(os.getpid(), home.environment)
    pid, started = os.getpid(), own.born or "as the CLI writes it"

    def written(name: str, **content: object) -> Path:
        path = home.sessions / name
        path.write_text(json.dumps(content))
        return path

    mine = [
        written(f"{pid}.json", procStart=started),
        written(f"{pid}.ab12.key", procStart=started),
    ]
    others = [
        written(f"{pid}1.json", procStart=started),
        written(f"{pid}.notes.json", note="no process has written it"),
        written(f"{pid}.old.json", procStart=started),
    ]
    if own.born:
        # The same id in another container that shares the folder.
        others.append(written(f"{pid}.other.json", procStart="1"))
    os.utime(home.sessions / f"{pid}.old.json", (1.0, 1.0))
    link = home.sessions / f"{pid}.link.json"
    link.symlink_to(others[0])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home.sockets / f"{pid}.sock"))
    own.remove()
    assert [path.exists() for path in mine] == [False, False]
    assert [path.exists() for path in others] == [True] * len(others)
    assert link.is_symlink()
    assert not (home.sockets / f"{pid}.sock").exists()
    later = replace(own, since=time.time() + 100)
    kept = written(f"{pid}.json", procStart=started)
    later.remove()
    assert kept.exists()
