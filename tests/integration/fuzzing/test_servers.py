"""The same through real servers: no fault of ours, no hang, and nothing left behind.

On a fake service, and a small part on a whole bridge with the real CLI.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random
from typing import Any

import grpc
import httpx
import uvicorn

from bridge.grpc_server.server import GrpcServer
from bridge.http_server import HttpSettings, all_dialects, connections, create_app
from bridge.v1 import completion_pb2 as pb
from tests.support.fakes import FakeService
from tests.support.harness import PATIENCE, SCALE, RunningBridge, sim
from tests.support.mutations import CHATS, COMPLETE, TEXTS, as_body, junk, mutated, mutated_proto

COUNT = 100 * SCALE
ON_A_BRIDGE = 15 * SCALE

NOT_OURS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    # A request id that another request had.
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

STATUS_LOST = "Internal error from Core"
"""What grpc.aio's client says in place of the status of a call that the server ended while the
client was still sending. An INTERNAL of the bridge's own reads otherwise."""


class _Server(uvicorn.Server):
    """Reports when it is up, and leaves the signals to the test run."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def http_api(service: FakeService) -> AsyncIterator[str]:
    """A server on this loop, so that what it leaves behind can be counted."""
    app = create_app(service, all_dialects(), version="0")
    protocol = connections(HttpSettings(), all_dialects())
    config = uvicorn.Config(app, http=protocol, log_config=None, lifespan="off")
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.create_task(server.serve([listener]))
        await asyncio.wait_for(server.up.wait(), PATIENCE)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def post(client: httpx.AsyncClient, url: str, rng: Random) -> None:
    path, valid = rng.choice((("chat/completions", CHATS), ("completions", TEXTS)))
    value = mutated(rng, rng.choice(valid)) if rng.random() < 0.9 else junk(rng)
    reply = await client.post(f"{url}/v1/{path}", content=as_body(rng, value))
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def complete(channel: grpc.aio.Channel, data: bytes) -> None:
    method: Any = channel.unary_stream("/bridge.v1.CompletionService/Complete")
    call = method(data, timeout=PATIENCE)
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError:
        pass
    assert await call.code() in NOT_OURS, await call.details()


async def converse(channel: grpc.aio.Channel, rng: Random) -> None:
    method: Any = channel.stream_stream("/bridge.v1.CompletionService/Converse")
    opened = pb.OpenConversation.FromString(COMPLETE[1].SerializeToString())
    del opened.completion.messages[:]
    said = pb.UserMessage(parts=COMPLETE[1].completion.messages[0].parts)
    messages = (pb.ConverseRequest(open=opened), pb.ConverseRequest(message=said))

    async def sent() -> AsyncIterator[bytes]:
        for message in messages:
            if rng.random() < 0.5:
                yield mutated_proto(rng, message)
            else:
                yield message.SerializeToString()

    call = method(sent(), timeout=PATIENCE)
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError:
        pass
    if await call.details() != STATUS_LOST:
        assert await call.code() in NOT_OURS, await call.details()


async def nothing_stays(batch: Callable[[int], Awaitable[None]]) -> None:
    """Run batches until one leaves no more behind than the one before it."""
    # pytest keeps each line of the log.
    logging.disable()
    try:
        await _nothing_stays(batch)
    finally:
        logging.disable(logging.NOTSET)


async def _nothing_stays(batch: Callable[[int], Awaitable[None]]) -> None:
    await batch(0)
    seen: list[tuple[int, int, int]] = []
    for number in range(1, 6):
        await batch(number)
        gc.collect()
        tasks = len(asyncio.all_tasks())
        now = (tasks, len(os.listdir("/dev/fd")), len(gc.get_objects()))
        if seen:
            grown = [after - before for before, after in zip(seen[-1], now, strict=True)]
            # Not one task, file or object for each request.
            if grown[0] <= 0 and grown[1] <= 0 and grown[2] < COUNT:
                return
        seen.append(now)
    raise AssertionError(f"tasks, files, objects: {seen}")


async def test_the_http_api_on_a_fake_service() -> None:
    service = FakeService()
    async with (
        http_api(service) as url,
        httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client,
    ):

        async def batch(number: int) -> None:
            for index in range(COUNT):
                await post(client, url, Random(f"{number} {index}"))
            service.requests.clear()

        await nothing_stays(batch)


async def test_the_grpc_api_on_a_fake_service() -> None:
    service = FakeService()
    async with (
        GrpcServer(service, port=0) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):

        async def batch(number: int) -> None:
            for index in range(COUNT):
                rng = Random(f"{number} {index}")
                if rng.random() < 0.7:
                    await complete(channel, mutated_proto(rng, rng.choice(COMPLETE)))
                else:
                    await converse(channel, rng)
            service.requests.clear()
            service.forget_ids()

        await nothing_stays(batch)
        assert server.running == 0


async def test_a_whole_bridge(bridge: RunningBridge) -> None:
    """What gets past the APIs, the CLI and the simulated API take too, or refuse in words."""
    async with (
        httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client,
        grpc.aio.insecure_channel(bridge.target) as channel,
    ):
        for index in range(ON_A_BRIDGE):
            rng = Random(index)
            chat = json.loads(json.dumps(rng.choice(CHATS)).replace("Hello", _ANSWER))
            # What is answered has to be what is asked for, as a model's answer would be.
            for name in ("response_format", "tool_choice", "function_call", "stop", "stream"):
                chat.pop(name, None)
            reply = await client.post(
                f"{bridge.url}/v1/chat/completions", content=as_body(rng, mutated(rng, chat))
            )
            assert reply.status_code < 500, (index, reply.text)
            request = pb.CompleteRequest.FromString(rng.choice(COMPLETE).SerializeToString())
            for field in ("output_format", "tool_choice", "sampling"):
                request.completion.ClearField(field)
            await complete(channel, mutated_proto(rng, request))
    await asyncio.to_thread(bridge.wait_until_settled)


_ANSWER = json.dumps(sim(text="Hi"))[1:-1]
