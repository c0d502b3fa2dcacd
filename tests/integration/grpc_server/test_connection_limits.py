"""The limits of connections: their age, pings in both directions, and the calls on each."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from bridge.core.telemetry import Occupancy
from bridge.grpc_server import ConnectionLimits
from tests.integration.grpc_server.by_hand import ACK, GOAWAY, PING, by_hand, call, prefixed
from tests.integration.grpc_server.conftest import Serve
from tests.integration.grpc_server.test_keepalive import EAGER
from tests.support.fakes import STARTED, STOP, FakeService, Gate, script_of
from tests.support.grpc.client import complete, question
from tests.support.waiting import soon

COMPLETE = "/bridge.v1.CompletionService/Complete"
ENHANCE_YOUR_CALM = 11


async def until_it_connects_no_more(channel: grpc.aio.Channel) -> None:
    while (state := channel.get_state()) is grpc.ChannelConnectivity.READY:
        await soon(channel.wait_for_state_change(state))


async def test_an_old_connection_ends_and_its_answer_is_finished(
    serve: Serve, service: FakeService
) -> None:
    gate = Gate()
    service.script = script_of(STARTED, gate, STOP)
    _, channel = await serve(limits=ConnectionLimits(max_age_seconds=1))
    answer = complete(channel, question())
    assert await answer.read()
    await until_it_connects_no_more(channel)
    gate.opened.set()
    assert (await answer.turn()).finish == "stop"
    # On another connection.
    assert (await complete(channel, question()).turn()).finish == "stop"


async def test_an_answer_on_an_old_connection_gets_the_grace_and_no_more(
    serve: Serve, service: FakeService
) -> None:
    service.script = script_of(STARTED, Gate())
    limits = ConnectionLimits(max_age_seconds=1, max_age_grace_seconds=1)
    _, channel = await serve(limits=limits)
    reply = await complete(channel, question()).turn()
    assert reply.failure is not None
    assert reply.failure.status == "UNAVAILABLE"
    assert await asyncio.to_thread(service.closed.wait, 60)


async def test_a_client_that_answers_no_ping_loses_its_calls(
    serve: Serve, service: FakeService
) -> None:
    service.script = script_of(STARTED, Gate())
    limits = ConnectionLimits(keepalive_seconds=1, keepalive_timeout=1)
    # No heartbeat in between: what is sent and not acknowledged would be noticed, too.
    server, _ = await serve(limits=limits, heartbeat_seconds=3600, stall_seconds=3600)
    async with by_hand(server.port) as client:
        client.writer.write(call(1, COMPLETE, prefixed(question())))
        await soon(service.entered.wait())
        _, flags, _ = await client.until(PING)
        assert not flags & ACK
        # In far less than the minute that gRPC waits by itself.
        async with asyncio.timeout(30):
            _, _, reason = await client.until(GOAWAY)
        assert b"ping_timeout" in reason
    assert await asyncio.to_thread(service.closed.wait, 60)


async def test_a_client_that_pings_more_often_than_allowed_is_sent_away(
    serve: Serve, service: FakeService
) -> None:
    service.script = script_of(STARTED, Gate())
    limits = ConnectionLimits(min_ping_seconds=3600)
    options: list[tuple[str, object]] = [*EAGER]
    server, channel = await serve(limits=limits, channel_options=options)
    reply = await complete(channel, question()).turn()
    assert reply.failure is not None
    assert reply.failure.status == "UNAVAILABLE"
    async with by_hand(server.port) as client:
        codes = [await client.ping()]
        while codes[-1] is None:
            codes.append(await client.ping())
    assert codes[-1] == ENHANCE_YOUR_CALM


@pytest.mark.parametrize("seconds", [0, 0.05], ids=["no limit", "one that it keeps"])
async def test_a_client_that_pings_as_often_as_allowed_is_answered(
    serve: Serve, seconds: float
) -> None:
    server, _ = await serve(limits=ConnectionLimits(min_ping_seconds=seconds))
    async with by_hand(server.port) as client:
        for _ in range(20):
            assert await client.ping() is None
            await asyncio.sleep(2 * seconds)


async def test_calls_over_the_limit_of_a_connection_wait_for_the_others(
    serve: Serve, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    service.script = script_of(STARTED, gate, STOP)
    occupancy = Occupancy()
    server, channel = await serve(limits=ConnectionLimits(max_streams=2), occupancy=occupancy)
    first = [complete(channel, question()) for _ in range(2)]
    for each in first:
        assert await each.read()
    third = complete(channel, question())
    # That something does not happen can only be seen by waiting for it a while.
    await asyncio.sleep(0.1)
    assert len(service.requests) == 2
    assert reached(occupancy) == 1
    # Another connection has its own.
    own: list[tuple[str, object]] = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=own) as another:
        assert await complete(another, question()).read()
    await first[0].leave()
    assert await third.read()
    gate.opened.set()
    for each in (first[1], third):
        assert (await each.turn()).finish == "stop"
    messages = [text for text in caplog.messages if "calls of a gRPC connection" in text]
    assert messages == [
        "all 2 calls of a gRPC connection are in use: its further ones wait until one ends "
        "(BRIDGE_GRPC_MAX_STREAMS)"
    ]


def reached(occupancy: Occupancy) -> float:
    samples: list[Any] = [each for family in occupancy.collect() for each in family.samples]
    (value,) = (
        each.value
        for each in samples
        if each.name == "bridge_limit_reached_total" and each.labels["limit"] == "grpc_streams"
    )
    return float(value)
