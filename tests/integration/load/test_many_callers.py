"""Far more callers than turns: they wait or are refused, and the server stays as it was."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import grpc
import httpx
import pytest

from bridge.simulator import Simulator
from tests.support.harness import LONG, PATIENCE, sim, user
from tests.system.soak.asking import Api, Ask, GrpcApi, HttpApi
from tests.system.soak.serving import serving

POOL_SIZE = 2
GROWTH_MB = 64.0
"""What 200 callers may cost, with small requests, at the most that the server ever has: a
third of a megabyte each. docs/reliability.md says so."""
REFUSALS = ("429 queue_full", "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize("callers", [40, pytest.param(200, marks=LONG)])
async def test_many_callers_at_once_on_a_pool_of_2(tmp_path: Path, callers: int) -> None:
    # Fewer than the callers of either API.
    queue_size = callers // 2 - 10
    refused: Counter[str] = Counter()
    all_are_there = asyncio.Event()

    async def call(api: Api, number: int) -> None:
        """Ask, and get an answer or a time to retry."""
        text = f"The answer to caller {number}."
        ask = Ask((user(sim(text=text)),), stream=number % 3 == 0)
        reply = await api.ask(ask)
        if reply.failure is None:
            assert reply.text == text
            return
        assert reply.failure.summary in REFUSALS, reply
        assert reply.failure.retry_after, reply
        refused[api.name] += 1
        if refused.total() == callers - queue_size:
            all_are_there.set()

    async with (
        Simulator(pace_ms=0) as simulator,
        serving(
            tmp_path,
            simulator.base_url,
            POOL_SIZE=str(POOL_SIZE),
            BRIDGE_SPARES="0",
            BRIDGE_MAX_PROCESSES=str(POOL_SIZE),
            BRIDGE_QUEUE_SIZE=str(queue_size),
            CLAUDE_TIMEOUT=str(10 * PATIENCE),
        ) as server,
    ):
        before = await server.settled()
        async with (
            httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{server.http}",
                timeout=PATIENCE,
                limits=httpx.Limits(max_connections=None),
            ) as client,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.grpc}") as channel,
        ):
            apis: tuple[Api, Api] = HttpApi(client), GrpcApi(channel)
            # Both turns are taken until everybody is there.
            silence = Ask((user(sim(hang=True)),), timeout=PATIENCE)
            first = [asyncio.create_task(api.ask(silence)) for api in apis]
            await simulator.ledger.wait_for_async(lambda seen: len(seen) == POOL_SIZE, PATIENCE)
            calls = [asyncio.create_task(call(apis[n % 2], n)) for n in range(callers)]
            await asyncio.wait_for(all_are_there.wait(), PATIENCE)
            assert (await server.ask())["waiting"] == queue_size
            for task in first:
                task.cancel()
            await asyncio.wait_for(asyncio.gather(*calls), 5 * PATIENCE)
        assert refused.total() == callers - queue_size
        assert set(refused) == {"http", "grpc"}
        # Each process has a few.
        after = await server.settled_like(lambda now: now.fds <= before.fds + 10)
        assert after.fds <= before.fds + 10
        assert not server.failures
        assert after.processes <= POOL_SIZE
        assert after.tasks <= before.tasks + 10
        assert after.peak_mb - before.rss_mb < GROWTH_MB, (before, after)
