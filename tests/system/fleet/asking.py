"""Requests to one replica, and to Envoy within a conversation."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from bridge.core.contract.request import CompletionRequest, Message
from tests.support.encoding import chat_body, proto
from tests.support.front_ends import KINDS, ApiCall, Apis, connected
from tests.support.grpc.client import complete
from tests.support.harness import sim
from tests.support.http.client import CHAT, HttpCall
from tests.support.http.response_events import check_response
from tests.system.fleet.fleet import Fleet
from tests.system.fleet.load import Load
from tests.system.fleet.programs import eventually
from tests.system.fleet.replica import QUEUE_SIZE, Replica
from tests.system.proxies.recipes import KEY

RESPONSES: Final = "/v1/responses"
CONVERSATION: Final = "x-conversation-id"


def new_mark() -> str:
    """A text by which a request is found at the model."""
    return uuid.uuid4().hex


def status(replica: Replica, key: str = KEY) -> int:
    """Ask the replica for a completion; return the status."""
    body = {"model": "default", "messages": [{"role": "user", "content": "Hello?"}]}
    return replica.ask(CHAT, body, key=key).status_code


def respond(replica: Replica, text: Any, **fields: Any) -> dict[str, Any]:
    """Make a response at this replica."""
    reply = replica.ask(RESPONSES, {"model": "default", "input": text, **fields})
    assert reply.status_code == 200, reply.text
    return check_response(reply.json())


def text_of(response: dict[str, Any]) -> str:
    """The text of a response."""
    messages = (item for item in response["output"] if item["type"] == "message")
    return "".join(part["text"] for item in messages for part in item["content"])


def add_key(fleet: Fleet, *options: str) -> tuple[str, str]:
    """Add a key of one's own at one replica; return its name and secret when all know it."""
    name = f"key-{new_mark()[:8]}"
    secret = fleet["anna"].run("keys", "add", name, "--mine", *options)
    for replica in fleet.replicas:
        replica.takes(secret)
    return name, secret


async def served_by(fleet: Fleet, apis: Apis, *names: str) -> None:
    """See that requests are answered, and by these replicas only."""
    for kind in KINDS * 2:
        mark = new_mark()
        assert await apis.ask(kind, sim(text="Served.", note=mark)) == "Served."
        assert fleet.serving(mark).name in names


def once_each(fleet: Fleet, requests: Load) -> None:
    """See that no request has been sent to the model twice, and none answered by itself."""
    for one in requests.asked:
        calls = len(fleet.upstream(one.mark))
        assert calls <= 1 if one.failure else calls == 1, one


def ask_in(apis: Apis, conversation: str, kind: str, *messages: Message) -> ApiCall:
    """Ask within a conversation, which the header names to the balancer."""
    request = CompletionRequest(messages)
    if kind == "grpc":
        return complete(apis.channel, proto(request), metadata=((CONVERSATION, conversation),))
    body = {**chat_body(request), "stream": kind == "stream"}
    return HttpCall(apis.http, body, headers={CONVERSATION: conversation})


@asynccontextmanager
async def filled(replica: Replica) -> AsyncIterator[None]:
    """Keep its process and its queue busy, without a proxy."""
    target = f"127.0.0.1:{replica.grpc_port}"
    async with connected(replica.url, target) as apis:
        apis.http.headers["authorization"] = f"Bearer {KEY}"
        endless = sim(endless=True, delay_ms=20)
        calls = [apis.call("stream", endless)]
        await calls[0].until_text()
        # One by one: what has not got a process yet counts as queued.
        for _ in range(QUEUE_SIZE):
            calls.append(apis.call("stream", endless))
            await asyncio.to_thread(_queued, replica, len(calls) - 1)
        yield
        for call in calls:
            await call.leave()


def _queued(replica: Replica, count: int) -> None:
    def pool() -> dict[str, int]:
        found: dict[str, int] = replica.ask("/health").json()["pool"]
        return found

    eventually(lambda: pool()["waiting"] == count, lambda: str(pool()))


async def without_redis(
    fleet: Fleet, apis: Apis, leave: Callable[[], None], come_back: Callable[[], None]
) -> None:
    """See what a fleet does while its Redis is away, and when it is back."""
    anna, ben = fleet["anna"], fleet["ben"]
    known = (await asyncio.to_thread(respond, anna, "Hello?"))["id"]
    leave()
    for kind in KINDS * 2:
        assert await apis.ask(kind, sim(text="Served.")) == "Served."
    body = {"model": "default", "input": "And?", "previous_response_id": known}
    failed = await asyncio.to_thread(ben.ask, RESPONSES, body)
    assert failed.status_code == 503, failed.text
    assert failed.json()["error"]["code"] == "store_unavailable"
    assert failed.headers["retry-after"]
    come_back()

    def linked() -> bool:
        return all(one.ask("/health").json()["redis"]["up"] for one in fleet.replicas)

    await asyncio.to_thread(eventually, linked, lambda: "all replicas have Redis back")
    # The first that is stored is had everywhere.
    first = await asyncio.to_thread(respond, anna, "Hello?")
    assert (await asyncio.to_thread(ben.ask, f"{RESPONSES}/{first['id']}")).status_code == 200
