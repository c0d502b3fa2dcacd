"""Which replica gets a request: that of its conversation, and another one where that is full."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from bridge.core.contract.request import CompletionRequest, Message
from tests.support.encoding import chat_body, proto
from tests.support.front_ends import KINDS, ApiCall, Apis, connected
from tests.support.grpc.client import complete
from tests.support.harness import assistant, sim, user
from tests.support.http.client import CHAT, HttpCall
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.programs import eventually
from tests.system.fleet.replica import QUEUE_SIZE, Replica
from tests.system.proxies.recipes import KEY

HEADER = "x-conversation-id"


def ask_in(apis: Apis, conversation: str, kind: str, *messages: Message) -> ApiCall:
    """Ask within a conversation, which the header names to the balancer."""
    request = CompletionRequest(messages)
    if kind == "grpc":
        return complete(apis.channel, proto(request), metadata=((HEADER, conversation),))
    body = {**chat_body(request), "stream": kind == "stream"}
    return HttpCall(apis.http, body, headers={HEADER: conversation})


async def test_a_conversation_stays_with_its_replica_over_both_apis_while_that_lives(
    fleet: Fleet, apis: Apis
) -> None:
    conversation = uuid.uuid4().hex
    messages: list[Message] = []

    async def turn(kind: str) -> Replica:
        mark = uuid.uuid4().hex
        messages.append(user(sim(text=f"Answer {len(messages)}.", note=mark)))
        reply = await ask_in(apis, conversation, kind, *messages).finish()
        assert reply.outcome == f"Answer {len(messages) - 1}."
        messages.append(assistant(reply.text))
        (call,) = (one for one in fleet.upstream(mark) if one.last_user_text.count(mark))
        return next(one for one in fleet.replicas if one.token == call.credential)

    home = await turn("stream")
    for kind in KINDS:
        assert await turn(kind) is home
        eventually(lambda: len(sources(home)) >= len(messages) // 2, lambda: str(sources(home)))
    assert sources(home)[-len(KINDS) :] == ["continued"] * len(KINDS)
    home.program.kill()
    await asyncio.to_thread(fleet.envoy.wait_for, fleet.without(home.name))
    other = await turn("grpc")
    assert other is not home
    # And there it stays.
    assert await turn("stream") is other


def sources(replica: Replica) -> list[str]:
    """How the requests of a replica got their processes, oldest first."""
    return [record["session"] for record in replica.records()]


async def test_what_a_full_replica_refuses_goes_to_another(fleet: Fleet, apis: Apis) -> None:
    conversation = uuid.uuid4().hex
    mark = uuid.uuid4().hex
    first = ask_in(apis, conversation, "whole", user(sim(text="Here.", note=mark)))
    assert (await first.finish()).outcome == "Here."
    home = fleet.serving(mark)
    before = fleet.envoy.counts("upstream_rq_retry")
    async with filled(home):
        for kind in KINDS:
            mark = uuid.uuid4().hex
            call = ask_in(apis, conversation, kind, user(sim(text="There.", note=mark)))
            assert (await call.finish()).outcome == "There."
            assert fleet.serving(mark) is not home
    assert fleet.envoy.counts("upstream_rq_retry") >= before + len(KINDS)


@asynccontextmanager
async def filled(replica: Replica) -> AsyncIterator[None]:
    """Keep all its processes and its queue busy, without a proxy."""
    target = f"127.0.0.1:{replica.grpc_port}"
    async with connected(replica.url, target) as apis:
        apis.http.headers["authorization"] = f"Bearer {KEY}"
        endless = sim(endless=True, delay_ms=20)
        calls = [apis.call("stream", endless)]
        await calls[0].until_text()
        # One by one: what has not got a process yet counts as queued.
        for _ in range(QUEUE_SIZE):
            calls.append(apis.call("stream", endless))
            await asyncio.to_thread(queued, replica, len(calls) - 1)
        yield
        for call in calls:
            await call.leave()


def queued(replica: Replica, count: int) -> None:
    """Wait until so many requests are in its queue."""

    def pool() -> dict[str, int]:
        found: dict[str, int] = replica.ask("/health").json()["pool"]
        return found

    eventually(lambda: pool()["waiting"] == count, lambda: str(pool()))


async def test_what_a_key_may_not_is_not_tried_elsewhere(fleet: Fleet, apis: Apis) -> None:
    name = f"key-{uuid.uuid4().hex[:8]}"
    options = ("--mine", "--model", "haiku")
    secret = await asyncio.to_thread(fleet["anna"].run, "keys", "add", name, *options)
    for replica in fleet.replicas:
        await asyncio.to_thread(replica.takes, secret)
    before = fleet.envoy.counts("upstream_rq_retry")
    headers = {"authorization": f"Bearer {secret}"}
    body = {**chat_body(CompletionRequest((user("Hello?"),))), "model": "opus"}
    refused: httpx.Response = await apis.http.post(CHAT, json=body, headers=headers)
    assert refused.status_code == 403, refused.text
    assert refused.headers["x-bridge-error"]
    assert fleet.envoy.counts("upstream_rq_retry") == before
