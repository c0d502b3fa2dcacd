"""The store of conversations: what it contains, for whom, and how long."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from bridge.core.answers import SqliteResponseStore, StoredConversation, StoredResponse
from bridge.core.answers.store import ConversationStore, JsonDict
from bridge.core.contract.errors import StoreUnavailableError

MEGABYTE = 1024 * 1024
DAY = 86_400.0


class Clock:
    """A clock that stands still until it is advanced."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "responses.sqlite3"


@pytest.fixture
async def responses(path: Path, clock: Clock) -> AsyncIterator[SqliteResponseStore]:
    async with aclosing(SqliteResponseStore(path, days=2, clock=clock)) as store:
        yield store


@pytest.fixture
def store(responses: SqliteResponseStore) -> ConversationStore:
    return responses.conversations


def item(number: int, text: str = "x") -> JsonDict:
    return {"id": f"msg_{number}", "type": "message", "text": text}


def conversation(id: str = "conv_1") -> StoredConversation:
    return StoredConversation(id, 1_700_000_000, {"topic": "rivers"})


async def items_of(store: ConversationStore, owner: str = "a") -> list[JsonDict] | None:
    return await store.items(owner, "conv_1", MEGABYTE)


async def test_a_deleted_conversation_is_gone_from_the_disk(
    store: ConversationStore, path: Path
) -> None:
    await store.create("a", conversation(), [item(1, "a secret of its own")])
    await store.create("a", conversation("conv_2"), [item(1, "another one")])

    assert await store.delete("a", "conv_1")
    assert not await store.delete("a", "conv_1")

    assert await store.get("a", "conv_1") is None
    assert await items_of(store) is None
    on_disk = b"".join(each.read_bytes() for each in path.parent.iterdir())
    assert b"a secret of its own" not in on_disk
    assert b"another one" in on_disk


async def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no database, but something else" * 100)
    async with aclosing(SqliteResponseStore(tmp_path / "file")) as broken:
        with pytest.raises(StoreUnavailableError):
            await broken.conversations.create("a", conversation(), [])


async def test_a_file_of_before_there_were_conversations_gets_them(path: Path) -> None:
    async with aclosing(SqliteResponseStore(path)) as old:
        await old.put("a", StoredResponse("r", None, [], {"id": "r", "output": []}))
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            "DROP TABLE conversation_items; DROP TABLE conversation_objects;PRAGMA user_version = 1"
        )

    async with aclosing(SqliteResponseStore(path)) as responses:
        assert await responses.get("a", "r") is not None
        assert await responses.conversations.create("a", conversation(), [item(1)])
