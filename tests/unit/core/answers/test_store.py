"""What every store of responses and conversations does, in memory, in a file and in Redis."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

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

from bridge.core.answers import (
    RedisResponseStore,
    RedisStorage,
    ResponseStore,
    SqliteResponseStore,
    StoredConversation,
    StoredResponse,
)
from bridge.core.answers.store import JsonDict
from bridge.core.contract.errors import TooLargeError
from bridge.core.redis import RedisLink, parse_redis_url
from tests.support.harness import SCALE
from tests.support.redis_server import RedisServer

T = TypeVar("T")

MEGABYTE = 1024 * 1024
DAY = 86_400.0

Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[ResponseStore]]
"""Opens the store; what it has stored is in the next one, too, unless it is in memory."""


class Clock:
    """A clock that stands still until it is advanced."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.close()


@asynccontextmanager
async def in_redis(url: str, **options: Any) -> AsyncIterator[ResponseStore]:
    link = RedisLink(parse_redis_url(url))
    await link.start()
    try:
        yield RedisResponseStore(RedisStorage(link, **options))
    finally:
        await link.aclose()


@pytest.fixture(params=["memory", "file", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("server")
        server.command("FLUSHALL")
        return lambda **options: in_redis(server.documented_user(), **options)
    path = tmp_path / "responses.sqlite3" if request.param == "file" else None
    return lambda **options: aclosing(SqliteResponseStore(path, **options))


@pytest.fixture
async def store(opened: Opened) -> AsyncIterator[ResponseStore]:
    async with opened() as store:
        yield store


def item(text: str) -> JsonDict:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def response(id: str, parent: str | None = None, text: str = "") -> StoredResponse:
    reply = {"id": id, "object": "response", "output": [item(f"answer of {id}")]}
    return StoredResponse(id, parent, [item(f"question of {id}{text}")], reply)


def said(*ids: str) -> list[JsonDict]:
    return [item(f"{what} of {id}") for id in ids for what in ("question", "answer")]


def entry(number: int, text: str = "x") -> JsonDict:
    return {"id": f"msg_{number}", "type": "message", "text": text}


def conversation(id: str = "conv_1") -> StoredConversation:
    return StoredConversation(id, 1_700_000_000, {"topic": "rivers"})


async def entries(store: ResponseStore, owner: str = "a") -> list[JsonDict] | None:
    return await store.conversations.items(owner, "conv_1", MEGABYTE)


# Responses


async def test_a_response_comes_back_as_it_was_stored(store: ResponseStore) -> None:
    assert await store.put("", response("resp_1"))
    assert await store.put("", response("resp_2", "resp_1"))

    assert await store.get("", "resp_1") == response("resp_1")
    assert await store.get("", "resp_2") == response("resp_2", "resp_1")
    assert await store.get("", "resp_3") is None
    assert await store.history("", "resp_2", MEGABYTE) == said("resp_1", "resp_2")
    assert await store.history("", "resp_3", MEGABYTE) is None


async def test_a_response_is_replaced(store: ResponseStore) -> None:
    await store.put("a", response("resp_1"))
    await store.put("a", response("resp_2", "resp_1"))

    assert await store.put("a", response("resp_2", "resp_1", "?"))
    assert not await store.put("b", response("resp_2"))

    assert await store.get("a", "resp_2") == response("resp_2", "resp_1", "?")
    assert await store.get("b", "resp_2") is None


async def test_a_deleted_response_is_gone(store: ResponseStore) -> None:
    await store.put("", response("resp_1"))

    assert await store.delete("", "resp_1")
    assert not await store.delete("", "resp_1")
    assert await store.get("", "resp_1") is None
    assert await store.history("", "resp_1", MEGABYTE) is None


async def test_two_branches_of_one_parent_are_apart(store: ResponseStore) -> None:
    for id, parent in (("root", None), ("a", "root"), ("b", "root"), ("aa", "a")):
        await store.put("", response(id, parent))

    assert await store.history("", "aa", MEGABYTE) == said("root", "a", "aa")
    assert await store.history("", "b", MEGABYTE) == said("root", "b")


async def test_a_key_sees_its_own_responses_only(store: ResponseStore) -> None:
    await store.put("alice", response("resp_1"))

    assert await store.get("bob", "resp_1") is None
    assert await store.history("bob", "resp_1", MEGABYTE) is None
    assert not await store.delete("bob", "resp_1")
    assert not await store.put("bob", response("resp_2", "resp_1"))
    assert await store.get("alice", "resp_1") is not None
    assert await store.get("bob", "resp_2") is None


async def test_what_built_on_a_deleted_response_has_no_history(store: ResponseStore) -> None:
    for id, parent in (("a", None), ("b", "a"), ("c", "b")):
        await store.put("", response(id, parent))

    await store.delete("", "a")

    assert await store.get("", "c") is not None
    assert await store.history("", "c", MEGABYTE) is None
    assert not await store.put("", response("d", "a"))


async def test_a_conversation_of_responses_lives_on_from_its_last(opened: Opened) -> None:
    clock = Clock()
    async with opened(days=2, clock=clock) as store:
        await store.put("", response("a"))
        await store.put("", response("other"))
        clock.now += 1.5 * DAY
        await store.put("", response("b", "a"))
        clock.now += DAY
        assert await store.history("", "b", MEGABYTE) == said("a", "b")
        assert await store.get("", "other") is None
        clock.now += DAY
        assert await store.history("", "b", MEGABYTE) is None
        assert not await store.put("", response("c", "b"))


async def test_the_conversations_of_longest_ago_make_room(opened: Opened) -> None:
    clock = Clock()
    long = "x" * 240_000
    async with opened(max_bytes=MEGABYTE, clock=clock) as store:
        for id in ("a", "b", "c"):
            clock.now += 1
            assert await store.put("", response(id, text=long))
        clock.now += 1
        assert await store.put("", response("aa", "a", text=long))  # `a` is in use again
        clock.now += 1
        assert await store.put("", response("d", text=long))
        there = [id for id in ("a", "aa", "b", "c", "d") if await store.get("", id) is not None]
    assert there == ["a", "aa", "c", "d"]


async def test_what_is_replaced_or_deleted_makes_room(opened: Opened) -> None:
    long = "x" * 300_000
    async with opened(max_bytes=MEGABYTE) as store:
        for _ in range(5):
            assert await store.put("", response("a", text=long))
        for _ in range(5):
            assert await store.put("", response("b", text=long))
            assert await store.delete("", "b")
        assert await store.put("", response("c", text=long))
        assert await store.get("", "a") is not None


async def test_what_is_larger_than_all_costs_nothing_else(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(max_bytes=MEGABYTE) as store:
        await store.put("", response("a"))
        assert not await store.put("", response("b", text="x" * 2 * MEGABYTE))
        assert await store.get("", "a") is not None
        assert await store.get("", "b") is None
    assert "too large" in caplog.text


async def test_a_history_beyond_the_limit_is_an_error(store: ResponseStore) -> None:
    await store.put("", response("a", text="x" * 1000))
    await store.put("", response("b", "a"))

    with pytest.raises(TooLargeError):
        await store.history("", "b", 1000)


async def test_a_long_conversation_comes_back_in_order(store: ResponseStore) -> None:
    ids = [f"r{number}" for number in range(300)]
    for parent, id in zip([None, *ids], ids, strict=False):
        await store.put("", response(id, parent))

    assert await store.history("", ids[-1], MEGABYTE) == said(*ids)


async def test_text_of_every_kind_comes_back(store: ResponseStore) -> None:
    await store.put(
        "", StoredResponse("a", None, [item("ü 🙂 \u2028 \0")], {"output": [item("\ud83d")]})
    )

    assert await store.history("", "a", MEGABYTE) == [item("ü 🙂 \u2028 \0"), item("\ufffd")]


async def test_nothing_is_lost_of_what_comes_at_the_same_time(store: ResponseStore) -> None:
    await store.conversations.create("a", conversation(), [])
    puts = [store.put("a", response(f"r{n}")) for n in range(20)]
    adds = [store.conversations.add("a", "conv_1", [entry(n), entry(-n - 1)]) for n in range(20)]
    assert all(await asyncio.gather(*puts, *adds))

    assert all([await store.get("a", f"r{n}") is not None for n in range(20)])
    ids = [each["id"] for each in await entries(store) or ()]
    # The items of one call stay together.
    pairs = sorted(zip(ids[::2], ids[1::2], strict=True))
    assert pairs == sorted((f"msg_{n}", f"msg_{-n - 1}") for n in range(20))


# Conversations


async def test_a_conversation_has_its_items_in_order(store: ResponseStore) -> None:
    conversations = store.conversations
    assert await conversations.create("a", conversation(), [entry(1)])
    assert await conversations.add("a", "conv_1", [entry(2), entry(3)])
    assert await conversations.add("a", "conv_1", [])

    assert await conversations.get("a", "conv_1") == conversation()
    assert await entries(store) == [entry(1), entry(2), entry(3)]
    assert await conversations.item("a", "conv_1", "msg_2") == entry(2)
    assert await conversations.item("a", "conv_1", "msg_9") is None


async def test_metadata_is_replaced(store: ResponseStore) -> None:
    await store.conversations.create("a", conversation(), [])

    updated = await store.conversations.update("a", "conv_1", {"topic": "lakes"})

    assert updated == await store.conversations.get("a", "conv_1")
    assert updated == StoredConversation("conv_1", 1_700_000_000, {"topic": "lakes"})
    assert await store.conversations.update("a", "conv_9", {}) is None


async def test_an_item_is_deleted_and_leaves_the_order(store: ResponseStore) -> None:
    await store.conversations.create("a", conversation(), [entry(1), entry(2), entry(3)])

    assert await store.conversations.delete_item("a", "conv_1", "msg_3")
    assert not await store.conversations.delete_item("a", "conv_1", "msg_3")
    await store.conversations.add("a", "conv_1", [entry(4)])

    assert await entries(store) == [entry(1), entry(2), entry(4)]


async def test_a_deleted_conversation_is_gone(store: ResponseStore) -> None:
    await store.conversations.create("a", conversation(), [entry(1)])

    assert await store.conversations.delete("a", "conv_1")
    assert not await store.conversations.delete("a", "conv_1")

    assert await store.conversations.get("a", "conv_1") is None
    assert await entries(store) is None
    assert not await store.conversations.add("a", "conv_1", [entry(2)])


async def test_an_owner_has_no_conversations_of_another(store: ResponseStore) -> None:
    conversations = store.conversations
    await conversations.create("a", conversation(), [entry(1)])

    assert await conversations.get("b", "conv_1") is None
    assert await entries(store, "b") is None
    assert await conversations.item("b", "conv_1", "msg_1") is None
    assert await conversations.update("b", "conv_1", {}) is None
    assert not await conversations.add("b", "conv_1", [entry(2)])
    assert not await conversations.delete_item("b", "conv_1", "msg_1")
    assert not await conversations.delete("b", "conv_1")
    assert await entries(store) == [entry(1)]


async def test_responses_and_conversations_are_two_things(store: ResponseStore) -> None:
    await store.conversations.create("a", conversation(), [])
    await store.put("a", response("r"))

    assert await store.get("a", "conv_1") is None
    assert await store.conversations.get("a", "r") is None
    assert await store.conversations.items("a", "r", MEGABYTE) is None
    assert not await store.conversations.add("a", "r", [entry(1)])
    assert not await store.conversations.delete("a", "r")


async def test_a_conversation_lives_on_from_its_last_use(opened: Opened) -> None:
    clock = Clock()
    async with opened(days=2, clock=clock) as store:
        await store.conversations.create("a", conversation(), [])
        await store.conversations.create("a", conversation("conv_2"), [])
        clock.now += 1.5 * DAY
        await store.conversations.add("a", "conv_1", [entry(1)])
        clock.now += DAY

        assert await entries(store) == [entry(1)]
        assert await store.conversations.get("a", "conv_2") is None
        clock.now += DAY
        assert not await store.conversations.add("a", "conv_1", [entry(2)])


async def test_it_makes_room_for_others_and_is_refused_where_it_is_too_large(
    opened: Opened,
) -> None:
    async with opened(max_bytes=MEGABYTE) as store:
        conversations = store.conversations
        assert await store.put("a", response("r"))
        assert await conversations.create("a", conversation(), [entry(1, "x" * 600_000)])
        assert await conversations.create("a", conversation("conv_2"), [entry(1, "x" * 600_000)])

        assert await store.get("a", "r") is None
        assert await conversations.get("a", "conv_1") is None
        assert not await conversations.add("a", "conv_2", [entry(2, "x" * 600_000)])
        assert not await conversations.create(
            "a", conversation("conv_3"), [entry(1, "x" * MEGABYTE)]
        )
        assert await conversations.items("a", "conv_2", MEGABYTE) == [entry(1, "x" * 600_000)]


async def test_a_conversation_beyond_the_limit_is_an_error(store: ResponseStore) -> None:
    await store.conversations.create("a", conversation(), [entry(1, "x" * 1_000)])

    with pytest.raises(TooLargeError):
        await store.conversations.items("a", "conv_1", 1_000)


CALLERS = st.sampled_from(["", "alice", "bob"])


class AnyUse(RuleBasedStateMachine):
    """Any use of the store agrees with a dictionary."""

    kept = Bundle("kept")

    def __init__(self, opened: Opened) -> None:
        """`opened` opens the store, which is empty at first."""
        super().__init__()
        self.opened = opened

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self._open()
        self.model: dict[str, tuple[str, str | None, str]] = {}
        """By id: the caller, the parent and the conversation."""
        self.used: dict[str, float] = {}
        self.count = 0

    def _open(self) -> None:
        self.open = self.opened(days=10, clock=self.clock)
        self.store = self._run(self.open.__aenter__())

    def _close(self) -> None:
        self._run(self.open.__aexit__(None, None, None))

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
        self._close()
        self._open()
        self._run(self.store.expire())

    @invariant()
    def nothing_of_another_is_there(self) -> None:
        assert self._run(self.store.get("mallory", f"r{self.count}")) is None

    def teardown(self) -> None:
        self._close()
        self.loop.close()


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_any_use_agrees_with_a_dictionary(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def empty() -> Opened:
        if kind == "redis":
            server: RedisServer = request.getfixturevalue("server")
            server.command("FLUSHALL")
            return lambda **options: in_redis(server.documented_user(), **options)
        path = Path(tempfile.mkdtemp(dir=tmp_path)) / "r.sqlite3"
        return lambda **options: aclosing(SqliteResponseStore(path, **options))

    run_state_machine_as_test(
        cast("type[AnyUse]", lambda: AnyUse(empty())),
        settings=settings(
            max_examples=15 * SCALE,
            stateful_step_count=25,
            derandomize=SCALE == 1,
            database=None,
            deadline=None,
        ),
    )
