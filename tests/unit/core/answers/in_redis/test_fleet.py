"""Request ids and detached answers of two servers that share a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from bridge.core.answers import CLAIM_SECONDS, Answers, RecordingLimits, RedisFleet
from bridge.core.answers.claims import Claim
from bridge.core.answers.in_redis.fleet import LEASE_SECONDS
from bridge.core.contract import (
    AnswerElsewhereError,
    CompletionRequest,
    Event,
    NotFoundError,
    RequestIdInUseError,
    StoreUnavailableError,
    UnavailableError,
)
from bridge.core.redis import RedisLink, parse_redis_url
from tests.support.fakes import HELLO, STARTED, FakeService, Gate, script_of
from tests.support.harness import user
from tests.support.redis_server import RedisServer
from tests.support.waiting import soon, until

ASKED = CompletionRequest((user("Hello?"),), request_id="req_1", owner="laptop")
OWN_ID = replace(ASKED, client_request_id="order-1")
AGAIN = replace(OWN_ID, request_id="req_2")


class Server:
    """The answers of one server of the fleet."""

    def __init__(self, link: RedisLink, name: str, *, kept_seconds: float = 600.0) -> None:
        self.link = link
        self.service = FakeService()
        self.fleet = RedisFleet(link, name, claim_seconds=CLAIM_SECONDS)
        self.refused: list[CompletionRequest] = []
        self.answers = Answers(
            self.service._answered,
            lambda request, error: self.refused.append(request),
            RecordingLimits(kept_seconds),
            fleet=self.fleet,
        )
        self.fleet.start()

    async def all_of(self, request: CompletionRequest) -> list[Event]:
        return [event async for event in self.answers.complete(request)]

    async def published(self, condition: Callable[[dict[str, str]], bool]) -> None:
        """Wait until one of the keys in Redis is as it should be."""

        async def there() -> bool:
            return any(map(condition, await self.keys()))

        await until(there)

    async def gone(self, kind: str) -> None:
        """Wait until there is no key of a kind."""

        async def gone() -> bool:
            return not any(key["kind"] == kind for key in await self.keys())

        await until(gone)

    async def keys(self) -> list[dict[str, str]]:
        """What is in Redis, with the seconds for which it stands."""
        found = []
        for key in await self.link.execute("KEYS", "*"):
            fields = await self.link.execute("HGETALL", key)
            ttl = await self.link.execute("TTL", key)
            # Otherwise its time has passed meanwhile.
            if fields and ttl >= 0:
                found.append({**fields, "ttl": ttl, "kind": key.split(":")[2]})
        return found

    async def die(self) -> None:
        """Stop publishing, as a process does that is killed."""
        assert self.fleet._publishing is not None
        self.fleet._publishing.cancel()
        for key in await self.link.execute("KEYS", "*"):
            # Its time passes.
            await self.link.execute("DEL", key)


@asynccontextmanager
async def linked(server: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(parse_redis_url(server.documented_user()))
    await link.start()
    yield link
    await link.aclose()


@pytest.fixture
async def links(redis_server: RedisServer) -> AsyncGenerator[tuple[RedisLink, RedisLink], None]:
    async with linked(redis_server) as one, linked(redis_server) as two:
        yield one, two


@pytest.fixture
async def servers(
    links: tuple[RedisLink, RedisLink], redis_server: RedisServer
) -> AsyncGenerator[tuple[Server, Server], None]:
    # Its own, as an operator has it: the documented user may not list keys.
    redis_server.command("ACL", "SETUSER", "bridge", "+keys", "+ttl")
    one, two = Server(links[0], "one"), Server(links[1], "two")
    yield one, two
    for server in (one, two):
        await server.answers.aclose()
        await server.fleet.aclose()


def is_in(state: str, kind: str = "claims") -> Callable[[dict[str, str]], bool]:
    return lambda key: (key["state"], key["kind"]) == (state, kind)


async def test_an_id_is_answered_once_in_the_fleet(servers: tuple[Server, Server]) -> None:
    one, two = servers
    assert await one.all_of(OWN_ID) == list(HELLO)
    await one.published(is_in("ended"))
    with pytest.raises(RequestIdInUseError, match="answered already") as raised:
        await two.all_of(AGAIN)
    assert not raised.value.retryable
    assert two.service.requests == []
    assert two.refused == [AGAIN]
    assert await two.all_of(replace(AGAIN, owner="phone")) == list(HELLO)
    (claim,) = [key for key in await one.keys() if key["request"] == "req_1"]
    assert CLAIM_SECONDS - 60 < int(claim["ttl"]) <= CLAIM_SECONDS


async def test_of_many_at_once_one_is_answered(servers: tuple[Server, Server]) -> None:
    requests = [replace(OWN_ID, request_id=f"req_{n}") for n in range(20)]
    ends = await asyncio.gather(
        *(servers[n % 2].all_of(request) for n, request in enumerate(requests)),
        return_exceptions=True,
    )
    assert [end for end in ends if not isinstance(end, RequestIdInUseError)] == [list(HELLO)]


async def test_a_running_request_keeps_its_id(servers: tuple[Server, Server]) -> None:
    one, two = servers
    before, within = Gate(), Gate()
    one.service.script = script_of(before, STARTED, within, *HELLO[1:])
    answering = asyncio.ensure_future(one.all_of(OWN_ID))
    await soon(before.reached.wait())
    with pytest.raises(RequestIdInUseError, match="waiting for its answer") as raised:
        await two.all_of(AGAIN)
    assert raised.value.retryable
    before.opened.set()
    await one.published(is_in("answered"))
    with pytest.raises(RequestIdInUseError, match="being answered") as raised:
        await two.all_of(AGAIN)
    assert not raised.value.retryable
    with pytest.raises(RequestIdInUseError) as raised:
        await two.all_of(replace(AGAIN, messages=(user("Something else"),)))
    assert raised.value.reason == "REQUEST_ID_REUSED"
    with pytest.raises(AnswerElsewhereError) as elsewhere:
        await two.answers.cancel("laptop", "order-1")
    assert elsewhere.value.replica == "one"
    within.opened.set()
    await answering


async def test_an_id_without_an_answer_is_free_everywhere(servers: tuple[Server, Server]) -> None:
    one, two = servers
    one.service.script = script_of(UnavailableError("Not now."))
    for n in range(3):
        # Free at once for the same server, too.
        with pytest.raises(UnavailableError):
            await one.all_of(replace(OWN_ID, request_id=f"req_{n}"))
    await one.gone("claims")
    assert await two.all_of(AGAIN) == list(HELLO)


async def test_an_id_is_free_at_once_for_the_server_that_had_it(
    links: tuple[RedisLink, RedisLink], servers: tuple[Server, Server]
) -> None:
    one, two = Server(links[0], "slow"), servers[1]
    assert one.fleet._publishing is not None
    # It has not published yet that the first one has ended.
    one.fleet._publishing.cancel()
    one.service.script = script_of(UnavailableError("Not now."))
    with pytest.raises(UnavailableError):
        await one.all_of(OWN_ID)
    with pytest.raises(RequestIdInUseError) as raised:
        await two.all_of(AGAIN)
    assert raised.value.retryable
    one.service.script = script_of(*HELLO)
    assert await one.all_of(AGAIN) == list(HELLO)
    await one.fleet.aclose()
    with pytest.raises(RequestIdInUseError, match="answered already"):
        await two.all_of(replace(AGAIN, request_id="req_3"))


async def test_a_killed_server_frees_what_it_had(servers: tuple[Server, Server]) -> None:
    one, two = servers
    gate = Gate()
    one.service.script = script_of(STARTED, gate)
    await one.answers.detach(OWN_ID)
    await one.published(is_in("answered"))
    await one.published(is_in("running", "answers"))
    for key in await one.keys():
        assert LEASE_SECONDS - 20 < int(key["ttl"]) <= LEASE_SECONDS
    with pytest.raises(AnswerElsewhereError):
        await two.answers.attach("laptop", "req_1")
    await one.die()
    with pytest.raises(NotFoundError):
        await two.answers.attach("laptop", "req_1")
    assert (await two.answers.detach(AGAIN)).request_id == "req_2"


async def test_a_detached_answer_is_named_by_the_other_server(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    gate = Gate()
    one.service.script = script_of(STARTED, gate, *HELLO[1:])
    await one.answers.detach(OWN_ID)
    await one.published(is_in("running", "answers"))
    await one.published(is_in("answered"))
    for state in ("running", "ended"):
        for id in ("req_1", "order-1"):
            with pytest.raises(AnswerElsewhereError, match="'one'") as raised:
                await two.answers.attach("laptop", id)
            assert (raised.value.replica, raised.value.id) == ("one", id)
            with pytest.raises(AnswerElsewhereError):
                await two.answers.cancel("laptop", id)
        with pytest.raises(AnswerElsewhereError) as repeated:
            await two.answers.detach(AGAIN)
        assert (repeated.value.replica, repeated.value.id) == ("one", "order-1")
        if state == "running":
            with pytest.raises(AnswerElsewhereError):
                await two.answers.forget("laptop", "req_1")
            gate.opened.set()
            await one.published(is_in("ended", "answers"))
    # What has ended and is stored can be deleted there.
    assert not await two.answers.forget("laptop", "req_1")
    # It is its owner's alone, and the server that has it still has it.
    with pytest.raises(NotFoundError):
        await two.answers.attach("phone", "req_1")
    assert (await one.answers.attach("laptop", "order-1")).request_id == "req_1"


async def test_an_answer_that_is_no_longer_kept_cannot_be_had_again(
    links: tuple[RedisLink, RedisLink], servers: tuple[Server, Server]
) -> None:
    two = servers[1]
    one = Server(links[0], "brief", kept_seconds=0.0)
    await one.answers.detach(OWN_ID)
    await one.published(is_in("ended"))
    await one.answers.finished()
    await one.gone("answers")
    with pytest.raises(RequestIdInUseError, match="answered already"):
        await two.answers.detach(AGAIN)
    with pytest.raises(NotFoundError):
        await two.answers.attach("laptop", "req_1")
    await one.fleet.aclose()


async def test_a_server_that_stops_leaves_its_ids_and_no_answers(
    links: tuple[RedisLink, RedisLink], servers: tuple[Server, Server]
) -> None:
    two = servers[1]
    leaving = Server(links[0], "leaving")
    answer = await leaving.answers.detach(OWN_ID)
    assert [event async for _, event in answer.events()] == list(HELLO)
    await leaving.answers.finished()
    await leaving.answers.aclose()
    await leaving.fleet.aclose()
    assert {key["kind"] for key in await two.keys()} == {"claims"}
    with pytest.raises(RequestIdInUseError, match="answered already"):
        await two.answers.detach(AGAIN)


async def test_while_redis_is_away_ids_are_each_servers_own_and_then_everyones(
    servers: tuple[Server, Server], redis_server: RedisServer
) -> None:
    one, two = servers
    redis_server.kill()
    gate = Gate()
    one.service.script = script_of(STARTED, gate, *HELLO[1:])
    answering = asyncio.ensure_future(one.all_of(OWN_ID))
    await soon(gate.reached.wait())
    with pytest.raises(RequestIdInUseError):
        await one.all_of(AGAIN)
    with pytest.raises(StoreUnavailableError):
        await two.answers.attach("laptop", "req_9")
    redis_server.start()
    redis_server.documented_user()
    redis_server.command("ACL", "SETUSER", "bridge", "+keys", "+ttl")

    async def back() -> bool:
        return one.link.up and two.link.up

    await until(back)
    await one.published(is_in("answered"))
    with pytest.raises(RequestIdInUseError, match="being answered"):
        await two.all_of(AGAIN)
    gate.opened.set()
    await answering
    await one.published(is_in("ended"))


async def test_what_ended_long_ago_is_not_published_once_redis_is_back(
    servers: tuple[Server, Server], redis_server: RedisServer
) -> None:
    one, _ = servers
    now = [1000.0]
    fleet = RedisFleet(one.link, "three", claim_seconds=CLAIM_SECONDS, clock=lambda: now[0])
    redis_server.kill()
    await until(lambda: not one.link.up)
    for n in range(2):
        claim = Claim("laptop", f"order-{n}", b"d", f"req_{n}", detached=False)
        await fleet.claim(OWN_ID, claim)
        claim.answered, claim.ended_at = True, now[0]
        fleet.changed(claim)
        now[0] += CLAIM_SECONDS - 10
    fleet.ended("laptop", "req_3", 0.0)
    fleet.start()
    # The first has been free for long.
    await until(lambda: len(fleet._published) == 2)
    redis_server.start()
    redis_server.documented_user()
    redis_server.command("ACL", "SETUSER", "bridge", "+keys", "+ttl")
    await until(lambda: one.link.up)
    await one.published(lambda key: key["request"] == "req_1" and int(key["ttl"]) <= 10)
    assert len(await one.keys()) == 1
    await fleet.aclose()


async def test_a_redis_that_comes_back_empty_is_told_at_once(
    servers: tuple[Server, Server], redis_server: RedisServer
) -> None:
    one, _ = servers
    # Nothing is due for renewal on this clock.
    fleet = RedisFleet(one.link, "three", claim_seconds=CLAIM_SECONDS, clock=lambda: 1000.0)
    fleet.start()
    await fleet.claim(OWN_ID, Claim("laptop", "order-1", b"d", "req_1", detached=False))
    await one.published(is_in("waiting"))
    redis_server.command("FLUSHALL")
    redis_server.kill()
    await until(lambda: not one.link.up)
    redis_server.start()
    redis_server.documented_user()
    redis_server.command("ACL", "SETUSER", "bridge", "+keys", "+ttl")
    await until(lambda: one.link.up)
    await one.published(is_in("waiting"))
    await fleet.aclose()


async def test_a_request_that_leaves_while_it_claims_its_id_frees_it(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = servers
    run, claimed = one.link.run, asyncio.Event()

    async def without_reply(*args: Any) -> None:
        await run(*args)
        claimed.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(one.link, "run", without_reply)
        leaving = asyncio.ensure_future(one.all_of(OWN_ID))
        await soon(claimed.wait())
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await until(lambda: not one.fleet._published)
    assert await two.all_of(AGAIN) == list(HELLO)


async def test_what_others_have_written_is_that_of_another_request(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    await one.all_of(OWN_ID)
    await one.published(is_in("ended"))
    (key,) = await one.link.execute("KEYS", "*")
    await one.link.execute("HSET", key, "digest", "not hex")
    await one.link.execute("HDEL", key, "request")
    with pytest.raises(RequestIdInUseError, match="another request"):
        await two.all_of(AGAIN)


async def test_a_name_that_others_have_written_fits_into_a_header(
    servers: tuple[Server, Server],
) -> None:
    one, two = servers
    gate = Gate()
    one.service.script = script_of(STARTED, gate, *HELLO[1:])
    await one.answers.detach(ASKED)
    await one.published(is_in("running", "answers"))
    (key,) = await one.link.execute("KEYS", "*")
    await one.link.execute("HSET", key, "replica", "o\r\nne é")
    with pytest.raises(AnswerElsewhereError) as raised:
        await two.answers.attach("laptop", "req_1")
    assert raised.value.replica == "o--ne--"
    await one.link.execute("HDEL", key, "replica")
    with pytest.raises(AnswerElsewhereError):
        await two.answers.attach("laptop", "req_1")
    gate.opened.set()


async def test_a_key_that_redis_refuses_does_not_keep_the_others_from_it(
    servers: tuple[Server, Server],
) -> None:
    one, _ = servers
    await one.link.execute("SET", one.fleet._claim_key("laptop", "order-1"), "no hash")
    # It counts for this server.
    assert await one.all_of(OWN_ID) == list(HELLO)
    assert await one.all_of(replace(AGAIN, client_request_id="order-2")) == list(HELLO)
    other = one.fleet._claim_key("laptop", "order-2")

    async def is_published() -> bool:
        return bool(await one.link.execute("HGET", other, "state") == "ended")

    await until(is_published)


async def test_a_claim_is_renewed_while_its_request_runs(
    links: tuple[RedisLink, RedisLink], servers: tuple[Server, Server]
) -> None:
    now = 0.0
    one = Server(links[0], "slow")
    one.fleet._clock = lambda: now
    gate = Gate()
    one.service.script = script_of(STARTED, gate, *HELLO[1:])
    await one.answers.detach(OWN_ID)
    await one.published(is_in("answered"))
    await one.published(is_in("running", "answers"))
    for key in await links[1].execute("KEYS", "*"):
        await links[1].execute("EXPIRE", key, 5)
    now += LEASE_SECONDS / 2
    # Whatever changes has it look at what is due.
    one.fleet.started("laptop", "another")
    await one.published(lambda key: is_in("answered")(key) and int(key["ttl"]) > 5)
    await one.published(
        lambda key: (
            is_in("running", "answers")(key) and key["request"] == "req_1" and int(key["ttl"]) > 5
        )
    )
    gate.opened.set()
    await one.answers.finished()
    await one.fleet.aclose()
