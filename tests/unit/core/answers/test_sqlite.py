"""The store of responses: what it contains, for whom, how long, and what survives."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bridge.core.answers.in_redis.responses import RedisResponseStore
from bridge.core.answers.sqlite import SqliteResponseStore
from bridge.core.answers.store import JsonDict, StoredResponse
from bridge.core.contract.errors import StoreUnavailableError
from bridge.core.redis import RedisLink, parse_redis_url
from bridge.server.front_ends import response_store
from tests.support.harness import settings_for_tests

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


@pytest.mark.parametrize("place", ["file", "memory"])
async def test_the_settings_determine_place_and_size(tmp_path: Path, place: str) -> None:
    limits = {"bridge_responses_megabytes": 1, "bridge_responses_store": place}
    store = response_store(settings_for_tests(tmp_path, **limits))
    assert store is not None
    async with aclosing(store):
        assert await store.put("", response("a"))
        assert not await store.put("", response("b", text="x" * MEGABYTE))
    assert names(tmp_path) == (["responses.sqlite3"] if place == "file" else [])
    assert response_store(settings_for_tests(tmp_path, bridge_responses_days=0)) is None


async def test_redis_is_where_responses_are_stored_if_there_is_one(tmp_path: Path) -> None:
    link = RedisLink(parse_redis_url("redis://127.0.0.1"))
    url = {"bridge_redis_url": parse_redis_url("redis://127.0.0.1")}
    for place, kind in (
        (None, RedisResponseStore),
        ("redis", RedisResponseStore),
        ("file", SqliteResponseStore),
        ("memory", SqliteResponseStore),
    ):
        settings = settings_for_tests(tmp_path, bridge_responses_store=place, **url)
        store = response_store(settings, link)
        assert isinstance(store, kind)
        await store.aclose()
    await link.aclose()
