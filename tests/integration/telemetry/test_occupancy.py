"""The number of connections, and a warning when there is no room for more."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import httpx
import pytest

from bridge.core.telemetry.occupancy import QUIET_SECONDS, Limit, Occupancy
from bridge.grpc_server import ConnectionLimits
from bridge.grpc_server.server import GrpcServer
from bridge.server import grpc_connections
from bridge.server.grpc_connections import watch_grpc_connections
from bridge.v1 import model_pb2, model_pb2_grpc
from tests.integration.grpc_server.by_hand import PREFACE
from tests.support.fakes import FakeService
from tests.support.harness import PATIENCE, RunningBridge

only_on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="no other system says how many connections a port has"
)


def counts(occupancy: Occupancy, metric: str = "bridge_connections") -> dict[str, float]:
    """The values of a metric, by their label."""
    (family,) = (family for family in occupancy.collect() if family.name == metric)
    return {next(iter(sample.labels.values())): sample.value for sample in family.samples}


def test_reaching_a_limit_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    occupancy = Occupancy(lambda: now)

    def http(*open_: int) -> None:
        for count in open_:
            occupancy.now(Limit.HTTP_CONNECTIONS, count, 2)

    def reached() -> float:
        return counts(occupancy, "bridge_limit_reached")["http_connections"]

    http(1, 2, 3, 2)
    assert caplog.messages == [
        "all 2 connections of the HTTP API are in use: further ones are refused until one is "
        "closed (BRIDGE_HTTP_MAX_CONNECTIONS)"
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert reached() == 1
    # One that is closed and taken again at once is no news; it is counted.
    http(1, 2)
    assert len(caplog.messages) == 1
    assert reached() == 2
    # The limit is of each address.
    occupancy.now(Limit.GRPC_CONNECTIONS, 5, 4, fullest=3)
    assert len(caplog.messages) == 1
    occupancy.now(Limit.GRPC_CONNECTIONS, 5, 4, fullest=4)
    assert len(caplog.messages) == 2
    http(1)
    now = QUIET_SECONDS
    http(2)
    assert len(caplog.messages) == 3
    assert counts(occupancy) == {"http": 2, "grpc": 5}
    assert counts(occupancy, "bridge_max_connections") == {"http": 2, "grpc": 4}


def test_a_limit_of_each_is_reached_by_each(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    occupancy = Occupancy(lambda: now)
    for whose, count in (("a", 1), ("a", 2), ("b", 1), ("b", 2), ("a", 3)):
        occupancy.of(Limit.CONVERSATIONS, whose, count, 2)
    assert counts(occupancy, "bridge_limit_reached")["conversations"] == 2
    assert len(caplog.messages) == 1
    assert counts(occupancy, "bridge_limit_refusals") == {"http_connections": 0, "conversations": 0}
    occupancy.refused(Limit.CONVERSATIONS)
    assert counts(occupancy, "bridge_limit_refusals")["conversations"] == 1


@only_on_linux
async def test_the_connections_of_grpc_are_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc_connections, "LOOK_SECONDS", 0.01)
    looked = asyncio.Event()

    class Noting(Occupancy):
        def now(self, *args: Any, **kwargs: Any) -> None:
            super().now(*args, **kwargs)
            looked.set()

    occupancy = Noting()

    async def until(count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while counts(occupancy).get("grpc") != count:
                looked.clear()
                await looked.wait()

    async with GrpcServer(
        FakeService(), port=0, limits=ConnectionLimits(max_connections=2)
    ) as running:
        watching = asyncio.create_task(watch_grpc_connections(running.port, 2, occupancy))
        await until(0)
        _, first = await asyncio.open_connection("127.0.0.1", running.port)
        await until(1)
        assert not caplog.messages
        _, second = await asyncio.open_connection("127.0.0.1", running.port)
        await until(2)
        assert "all 2 connections of the gRPC API are in use" in caplog.text
        first.close()
        second.close()
        await until(0)
        watching.cancel()


@only_on_linux
def test_both_apis_are_watched(
    start_bridge: Callable[..., RunningBridge],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(grpc_connections, "LOOK_SECONDS", 0.01)
    bridge = start_bridge(bridge_http_max_connections=3, bridge_grpc_max_connections=1)
    with httpx.Client(timeout=PATIENCE) as client, ExitStack() as stack:

        def metrics() -> str:
            return client.get(f"{bridge.url}/metrics").text

        def until(line: str) -> None:
            end = time.monotonic() + PATIENCE
            while line not in metrics():
                assert time.monotonic() < end, metrics()
                time.sleep(0.01)

        until('bridge_connections{api="http"} 1.0\n')
        until('bridge_connections{api="grpc"} 0.0\n')
        until('bridge_limit_reached_total{limit="grpc_connections"} 0.0\n')
        opened = stack.enter_context(
            socket.create_connection(("127.0.0.1", bridge.bridge.grpc_port))
        )
        opened.sendall(PREFACE)
        until('bridge_connections{api="grpc"} 1.0\n')
        until('bridge_limit_reached_total{limit="grpc_connections"} 1.0\n')
        assert "all 1 connections of the gRPC API are in use" in caplog.text
        another = stack.enter_context(
            socket.create_connection(("127.0.0.1", bridge.bridge.grpc_port), PATIENCE)
        )
        with suppress(ConnectionError):
            another.sendall(PREFACE)
            # Whom it takes it greets.
            assert another.recv(1) == b""
        opened.close()
        until('bridge_connections{api="grpc"} 0.0\n')
        for _ in range(2):
            stack.enter_context(socket.create_connection(("127.0.0.1", bridge.bridge.http_port)))
        until('bridge_connections{api="http"} 3.0\n')
        assert "all 3 connections of the HTTP API are in use" in caplog.text
        refused = httpx.get(f"{bridge.url}/health", timeout=PATIENCE, trust_env=False)
        assert refused.status_code == 429
        until('bridge_limit_refusals_total{limit="http_connections"} 1.0\n')


def test_the_calls_of_a_grpc_connection_are_counted(
    start_bridge: Callable[..., RunningBridge], caplog: pytest.LogCaptureFixture
) -> None:
    bridge = start_bridge(bridge_grpc_max_streams=1)
    with grpc.insecure_channel(bridge.target) as channel:
        stub = model_pb2_grpc.ModelServiceStub(channel)
        stub.ListModels(model_pb2.ListModelsRequest(), timeout=PATIENCE)
    assert "all 1 calls of a gRPC connection are in use" in caplog.text
    metrics = httpx.get(f"{bridge.url}/metrics", timeout=PATIENCE, trust_env=False).text
    assert 'bridge_limit_reached_total{limit="grpc_streams"} 1.0\n' in metrics
