"""Shutdown: running answers may finish, new requests are refused, the rest gets an error."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from bridge.v1 import pool_pb2, pool_pb2_grpc
from tests.support.front_ends import KINDS, ApiCall, Apis, connected
from tests.support.harness import PATIENCE, RunningBridge, sim
from tests.support.replies import Failure

Start = Callable[..., RunningBridge]
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def until_reached(running: RunningBridge, mark: str) -> None:
    await running.simulator.ledger.wait_for_async(
        lambda found: any(exchange.contains(mark) for exchange in found), PATIENCE
    )


async def read_all(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def one_waits(running: RunningBridge) -> None:
    pool = running.bridge.engine.pool
    async with asyncio.timeout(PATIENCE):
        while pool.waiting == 0:
            await pool.changed()


async def one_runs_and_one_waits(
    running: RunningBridge, apis: Apis
) -> tuple[ApiCall, asyncio.Future[str | Failure]]:
    """Ask twice where one turn goes at a time: a stream that has begun, and one behind it."""
    # On a busy machine the first may be over before the other has come in.
    for delay_ms in (25, 250, 2500):
        first = apis.call("stream", sim(tokens=40, delay_ms=delay_ms))
        await first.until_text()
        queued = asyncio.ensure_future(apis.ask("grpc", sim(text="queued")))
        work = asyncio.to_thread(running.call, lambda: one_waits(running))
        waiting = asyncio.ensure_future(work)
        await asyncio.wait((queued, waiting), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            await waiting
            return first, queued
        await first.finish()
    raise AssertionError("it never waits")


def draining(running: RunningBridge, seconds: float) -> Future[None]:
    """Begin to drain, on the bridge's own loop."""
    work = running.bridge.drain(seconds)
    return asyncio.run_coroutine_threadsafe(work, running._loop.loop)


async def test_running_and_queued_answers_finish_while_new_requests_are_refused(
    start_bridge: Start,
) -> None:
    running = await asyncio.to_thread(start_bridge, pool_size=1, bridge_spares=0)
    async with (
        connected(running.url, running.target) as apis,
        httpx.AsyncClient(base_url=running.url, timeout=PATIENCE) as kept,
        grpc.aio.insecure_channel(running.target) as channel,
    ):
        assert (await kept.get("/health")).status_code == 200
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        pool_watch = pool_pb2_grpc.PoolServiceStub(channel).WatchPool(pool_pb2.WatchPoolRequest())
        talk = pb_grpc.CompletionServiceStub(channel).Converse()
        await talk.write(pb.ConverseRequest(open=pb.OpenConversation()))

        first, queued = await one_runs_and_one_waits(running, apis)

        drained = draining(running, PATIENCE)
        while (await asyncio.wait_for(watch.read(), PATIENCE)).status != NOT_SERVING:
            pass
        for kind in KINDS:
            refused = await apis.ask(kind, "Too late.")
            assert isinstance(refused, Failure)
            assert (refused.status, refused.reason.lower()) == (
                "UNAVAILABLE" if kind == "grpc" else 503,
                "draining",
            )
            assert refused.retry_after is not None
            assert refused.retry_after >= 1
        # A client on a kept connection is sent to another server.
        body = {"messages": [{"role": "user", "content": "Too late."}]}
        refusal = await kept.post("/v1/chat/completions", json=body)
        assert (refusal.status_code, refusal.headers["connection"]) == (503, "close")
        health = await kept.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        status = pool_pb2.Pool.STATUS_OK
        while status != pool_pb2.Pool.STATUS_DRAINING:
            seen: Any = await asyncio.wait_for(pool_watch.read(), PATIENCE)
            status = seen.pool.status
        # A conversation that is open gets no further turn.
        message = pb.UserMessage(parts=[pb.Part(text="Too late.")])
        await talk.write(pb.ConverseRequest(message=message))
        assert await asyncio.wait_for(talk.code(), PATIENCE) is grpc.StatusCode.UNAVAILABLE

        text = (await first.finish()).outcome
        assert isinstance(text, str)
        assert text.endswith("w39 ")
        assert await queued == "queued"
        await asyncio.wrap_future(drained)
        await asyncio.to_thread(running.stop)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(read_all(pool_watch), PATIENCE)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        watch.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_does_not_finish_in_time_ends_in_an_error(
    start_bridge: Start, kind: str
) -> None:
    running = await asyncio.to_thread(start_bridge, pool_size=1, bridge_spares=0)
    async with connected(running.url, running.target) as apis:
        mark = uuid.uuid4().hex
        caller = apis.call(kind, f"{mark} {sim(endless=True, delay_ms=20)}")
        if kind == "whole":
            await until_reached(running, mark)
        else:
            await caller.until_text()
        await asyncio.wrap_future(draining(running, 0.05))
        stopping = asyncio.create_task(asyncio.to_thread(running.stop))
        failure = (await caller.finish()).outcome
        assert isinstance(failure, Failure)
        assert failure.reason.lower() == "draining"
        assert failure.status == {"whole": 503, "stream": 200, "grpc": "UNAVAILABLE"}[kind]
        await stopping
