"""The store of responses: what it contains, for whom, how long, and what survives."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from bridge.core.answers.sqlite import SqliteResponseStore
from bridge.core.answers.store import JsonDict, StoredResponse
from bridge.core.contract.errors import StoreUnavailableError, TooLargeError
from bridge.server.front_ends import response_store
from tests.support.harness import SCALE, settings_for_tests

T = TypeVar("T")

MEGABYTE = 1024 * 1024
KEEP_AND_DIE = """
import asyncio, os, pathlib, signal, sys
from bridge.core.answers import SqliteResponseStore, StoredResponse

store = SqliteResponseStore(pathlib.Path(sys.argv[1]))
assert asyncio.run(store.put("", StoredResponse("a", None, [], {"id": "a", "output": []})))
os.kill(os.getpid(), signal.SIGKILL)
"""


class Clock:
    """A clock that stands still until it is advanced."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def item(text: str) -> JsonDict:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def response(id: str, parent: str | None = None, text: str = "") -> StoredResponse:
    reply = {"id": id, "object": "response", "output": [item(f"answer of {id}")]}
    return StoredResponse(id, parent, [item(f"question of {id}{text}")], reply)


def said(*ids: str) -> list[JsonDict]:
    return [item(f"{what} of {id}") for id in ids for what in ("question", "answer")]


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def read(path: Path) -> bytes:
    return path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def modes(folder: Path) -> list[int]:
    return [stat.S_IMODE(file.stat().st_mode) for file in (folder, *folder.iterdir())]


def on_disk(folder: Path, text: str) -> bool:
    return any(text.encode() in file.read_bytes() for file in folder.iterdir())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Lock the file like another program that writes to it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteResponseStore]:
    async with aclosing(SqliteResponseStore(path, **options)) as store:
        yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "responses.sqlite3"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteResponseStore]:
    async with opened(path) as store:
        yield store


async def test_a_response_is_there_again_after_a_restart(path: Path) -> None:
    async with opened(path) as store:
        assert await store.put("", response("resp_1"))
        assert await store.put("", response("resp_2", "resp_1"))
    async with opened(path) as store:
        assert await store.get("", "resp_2") == response("resp_2", "resp_1")
        assert await store.history("", "resp_2", MEGABYTE) == said("resp_1", "resp_2")


async def test_files_that_others_could_read_are_taken_from_them(path: Path) -> None:
    async with opened(path) as store:
        await store.put("", response("resp_1"))
        # As a killed server leaves them, in a folder with an open umask or from a copy.
        left = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    for name, content in left.items():
        (path.parent / name).write_bytes(content)
        (path.parent / name).chmod(0o644)
    path.parent.chmod(0o755)

    async with opened(path) as store:
        assert await store.get("", "resp_1") == response("resp_1")
        assert modes(path.parent) == [0o700, 0o600, 0o600, 0o600]


async def test_only_the_owner_can_read_the_files(path: Path, store: SqliteResponseStore) -> None:
    await store.put("", response("resp_1"))

    assert names(path.parent) == [f"{path.name}{end}" for end in ("", "-shm", "-wal")]
    assert modes(path.parent) == [0o700, 0o600, 0o600, 0o600]


async def test_nothing_is_written_before_there_is_something(path: Path) -> None:
    async with opened(path) as store:
        await store.expire()
    assert names(path.parent) == []


async def test_two_branches_of_one_parent_are_apart(store: SqliteResponseStore) -> None:
    for id, parent in (("root", None), ("a", "root"), ("b", "root"), ("aa", "a")):
        await store.put("", response(id, parent))

    assert await store.history("", "aa", MEGABYTE) == said("root", "a", "aa")
    assert await store.history("", "b", MEGABYTE) == said("root", "b")


async def test_a_key_sees_its_own_responses_only(store: SqliteResponseStore) -> None:
    await store.put("alice", response("resp_1"))

    assert await store.get("bob", "resp_1") is None
    assert await store.history("bob", "resp_1", MEGABYTE) is None
    assert not await store.delete("bob", "resp_1")
    assert not await store.put("bob", response("resp_2", "resp_1"))
    assert await store.get("alice", "resp_1") is not None
    assert await store.get("bob", "resp_2") is None


async def test_what_is_deleted_is_gone_from_the_disk(
    path: Path, store: SqliteResponseStore
) -> None:
    secret = "a word that is nowhere else"
    await store.put("", response("resp_1", text=secret))
    await store.put("", response("resp_2"))

    assert on_disk(path.parent, secret)
    assert await store.delete("", "resp_1")
    assert not on_disk(path.parent, secret)
    assert not await store.delete("", "resp_1")


async def test_what_built_on_a_deleted_response_has_no_history(store: SqliteResponseStore) -> None:
    for id, parent in (("a", None), ("b", "a"), ("c", "b")):
        await store.put("", response(id, parent))

    await store.delete("", "a")

    assert await store.get("", "c") is not None
    assert await store.history("", "c", MEGABYTE) is None
    assert not await store.put("", response("d", "a"))


async def test_a_conversation_lives_on_from_its_last_response(path: Path) -> None:
    clock = Clock()
    async with opened(path, days=2, clock=clock) as store:
        await store.put("", response("a"))
        await store.put("", response("other"))
        clock.now += 86_400 * 1.5
        await store.put("", response("b", "a"))
        clock.now += 86_400
        assert await store.history("", "b", MEGABYTE) == said("a", "b")
        assert await store.get("", "other") is None
        clock.now += 86_400
        assert await store.history("", "b", MEGABYTE) is None
        assert not await store.put("", response("c", "b"))


async def test_what_is_too_old_leaves_the_disk_at_the_start(path: Path) -> None:
    clock = Clock()
    async with opened(path, clock=clock) as store:
        await store.put("", response("a"))
    clock.now += 86_400 * 31
    async with opened(path, clock=clock) as store:
        await store.expire()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM responses").fetchone() == (0,)
    database.close()


async def test_the_conversations_of_longest_ago_make_room(path: Path) -> None:
    clock = Clock()
    long = "x" * 240_000
    async with opened(path, max_bytes=MEGABYTE, clock=clock) as store:
        for id in ("a", "b", "c"):
            clock.now += 1
            assert await store.put("", response(id, text=long))
        clock.now += 1
        assert await store.put("", response("aa", "a", text=long))  # `a` is in use again
        clock.now += 1
        assert await store.put("", response("d", text=long))
        there = [id for id in ("a", "aa", "b", "c", "d") if await store.get("", id) is not None]
    assert there == ["a", "aa", "c", "d"]
    assert len(read(path)) <= MEGABYTE


async def test_what_is_larger_than_all_costs_nothing_else(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path, max_bytes=MEGABYTE) as store:
        await store.put("", response("a"))
        assert not await store.put("", response("b", text="x" * 2 * MEGABYTE))
        assert await store.get("", "a") is not None
        assert await store.get("", "b") is None
    assert "too large" in caplog.text


async def test_a_history_beyond_the_limit_is_an_error(store: SqliteResponseStore) -> None:
    await store.put("", response("a", text="x" * 1000))
    await store.put("", response("b", "a"))

    with pytest.raises(TooLargeError):
        await store.history("", "b", 1000)


async def test_a_long_conversation_comes_back_in_order(store: SqliteResponseStore) -> None:
    ids = [f"r{number}" for number in range(300)]
    for parent, id in zip([None, *ids], ids, strict=False):
        await store.put("", response(id, parent))

    assert await store.history("", ids[-1], MEGABYTE) == said(*ids)


async def test_text_of_every_kind_comes_back(store: SqliteResponseStore) -> None:
    await store.put(
        "", StoredResponse("a", None, [item("ü 🙂 \u2028 \0")], {"output": [item("\ud83d")]})
    )

    assert await store.history("", "a", MEGABYTE) == [item("ü 🙂 \u2028 \0"), item("\ufffd")]


async def test_two_servers_share_a_file(path: Path) -> None:
    async with opened(path) as one, opened(path) as other:
        puts = [
            store.put("", response(f"{name}{n}"))
            for n in range(5)
            for name, store in (("a", one), ("b", other))
        ]
        assert await asyncio.gather(*puts) == [True] * 10
        assert [await one.get("", f"b{n}") is not None for n in range(5)] == [True] * 5
        assert [await other.get("", f"a{n}") is not None for n in range(5)] == [True] * 5


async def test_what_is_kept_can_be_read_while_another_program_writes(path: Path) -> None:
    async with opened(path) as store:
        await store.put("", response("a"))
    async with opened(path) as store:
        with writing(path):
            assert await store.get("", "a") == response("a")
            assert await store.history("", "a", MEGABYTE) == said("a")
        assert await store.put("", response("b", "a"))


@pytest.mark.parametrize("endings", [("",), ("", "-wal", "-shm")])
async def test_a_file_that_was_removed_is_recreated(
    path: Path, store: SqliteResponseStore, endings: tuple[str, ...]
) -> None:
    await store.put("", response("a"))
    for ending in endings:
        path.with_name(path.name + ending).unlink()

    assert await store.get("", "a") is None
    assert await store.put("", response("b"))
    async with opened(path) as other:
        assert await other.history("", "b", MEGABYTE) == said("b")


async def test_what_was_kept_outlives_a_server_that_is_killed(path: Path) -> None:
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KEEP_AND_DIE, path)
    assert await killed.wait() == -signal.SIGKILL

    async with opened(path) as store:
        assert await store.history("", "a", MEGABYTE) == []
        assert await store.put("", response("b", "a"))
        assert await store.history("", "b", MEGABYTE) == said("b")


async def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    before = b"something of the user's own, and long enough to be looked at" * 100
    write(path, before)
    async with opened(path) as store:
        await store.expire()
        assert not await store.put("", response("a"))
        with pytest.raises(StoreUnavailableError):
            await store.get("", "a")
    assert read(path) == before


async def test_a_file_of_a_later_version_is_left_alone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as store:
        await store.put("", response("a"))
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 9")
    database.close()
    async with opened(path) as store:
        with pytest.raises(StoreUnavailableError):
            await store.history("", "a", MEGABYTE)
    assert "version is 9" in caplog.text


async def test_a_full_disk_costs_the_keeping_only(path: Path) -> None:
    # SQLite itself says "database or disk is full" when it may have no further page.
    async with opened(path) as store:
        await store.put("", response("a"))
        await store._file.run(
            lambda database: database.execute("PRAGMA max_page_count = 8").fetchall()
        )
        assert not await store.put("", response("b", text="x" * 200_000))
        assert await store.history("", "a", MEGABYTE) == said("a")
        # The fault is over with the next connection.
        assert await store.put("", response("b", text="x" * 200_000))


async def test_a_folder_that_cannot_be_made_costs_the_keeping_only(tmp_path: Path) -> None:
    path = tmp_path / "file" / "responses.sqlite3"
    write(path.parent, b"no folder")
    async with opened(path) as store:
        assert not await store.put("", response("a"))
        with pytest.raises(StoreUnavailableError):
            await store.get("", "a")


async def test_the_settings_determine_place_and_size(tmp_path: Path) -> None:
    limits = {"bridge_state_dir": tmp_path, "bridge_responses_megabytes": 1}
    store = response_store(settings_for_tests(tmp_path, **limits))
    assert store is not None
    async with aclosing(store):
        assert await store.put("", response("a"))
        assert not await store.put("", response("b", text="x" * MEGABYTE))
    assert names(tmp_path) == ["responses.sqlite3"]
    assert response_store(settings_for_tests(tmp_path, bridge_responses_days=0)) is None


CALLERS = st.sampled_from(["", "alice", "bob"])


class AnyUse(RuleBasedStateMachine):
    """Any use of the store agrees with a dictionary."""

    kept = Bundle("kept")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.store = self._open()
        self.model: dict[str, tuple[str, str | None, str]] = {}
        """By id: the caller, the parent and the conversation."""
        self.used: dict[str, float] = {}
        self.count = 0

    def _open(self) -> SqliteResponseStore:
        return SqliteResponseStore(self.folder / "r.sqlite3", days=10, clock=self.clock)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def _there(self, caller: str, id: str) -> bool:
        if id not in self.model or self.model[id][0] != caller:
            return False
        return self.used[self.model[id][2]] > self.clock.now - 10 * 86_400

    def _chain(self, caller: str, id: str) -> list[str] | None:
        if not self._there(caller, id):
            return None
        chain: list[str] = []
        here: str | None = id
        while here is not None:
            if here not in self.model:
                return None
            chain.insert(0, here)
            here = self.model[here][1]
        return chain

    @rule(target=kept, caller=CALLERS)
    def first(self, caller: str) -> tuple[str, str]:
        return self._put(caller, None)

    @rule(target=kept, parent=kept, other=CALLERS, own=st.booleans())
    def further(self, parent: tuple[str, str], other: str, own: bool) -> Any:
        caller = parent[0] if own else other
        if self._there(caller, parent[1]):
            return self._put(caller, parent[1])
        assert not self._run(self.store.put(caller, response("never", parent[1])))
        return multiple()

    def _put(self, caller: str, parent: str | None) -> tuple[str, str]:
        self.count += 1
        id = f"r{self.count}"
        conversation = id if parent is None else self.model[parent][2]
        assert self._run(self.store.put(caller, response(id, parent)))
        self.model[id] = (caller, parent, conversation)
        self.used[conversation] = self.clock.now
        return caller, id

    @rule(which=consumes(kept), caller=CALLERS)
    def delete(self, which: tuple[str, str], caller: str) -> None:
        id = which[1]
        assert self._run(self.store.delete(caller, id)) is self._there(caller, id)
        if self._there(caller, id):
            del self.model[id]

    @rule(which=kept, caller=CALLERS)
    def read(self, which: tuple[str, str], caller: str) -> None:
        id = which[1]
        found = self._run(self.store.get(caller, id))
        assert found == (response(id, self.model[id][1]) if self._there(caller, id) else None)
        chain = self._chain(caller, id)
        history = self._run(self.store.history(caller, id, MEGABYTE))
        assert history == (None if chain is None else said(*chain))

    @rule(days=st.floats(0.1, 6))
    def wait(self, days: float) -> None:
        self.clock.now += days * 86_400

    @rule()
    def restart(self) -> None:
        self._run(self.store.aclose())
        self.store = self._open()
        self._run(self.store.expire())

    @invariant()
    def nothing_of_another_is_there(self) -> None:
        assert self._run(self.store.get("mallory", f"r{self.count}")) is None

    def teardown(self) -> None:
        self._run(self.store.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)


def test_any_use_agrees_with_a_dictionary() -> None:
    run_state_machine_as_test(
        AnyUse,
        settings=settings(
            max_examples=15 * SCALE,
            stateful_step_count=25,
            derandomize=SCALE == 1,
            database=None,
            deadline=None,
        ),
    )
