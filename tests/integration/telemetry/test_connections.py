"""The number of connections, and a warning when there is no room for more."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest

from bridge.core.telemetry.connections import QUIET_SECONDS, Connections
from bridge.grpc_server import server as grpc_server
from bridge.grpc_server.server import GrpcServer
from bridge.server import front_ends, grpc_connections
from bridge.server.grpc_connections import watch_grpc_connections
from tests.support.fakes import FakeService
from tests.support.harness import PATIENCE, RunningBridge

only_on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="no other system says how many connections a port has"
)


def counts(connections: Connections) -> dict[str, float]:
    (family,) = connections.collect()
    return {sample.labels["api"]: sample.value for sample in family.samples}


def test_reaching_the_limit_of_connections_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    connections = Connections(lambda: now)
    for count in (1, 2, 3, 2):
        connections.now("HTTP", count, 2)
    assert caplog.messages == [
        "all 2 connections of the HTTP API are in use: further ones are refused until one is closed"
    ]
    assert caplog.records[0].levelno == logging.WARNING
    # One that is closed and taken again at once is no news.
    connections.now("HTTP", 1, 2)
    connections.now("HTTP", 2, 2)
    assert len(caplog.messages) == 1
    connections.now("gRPC", 5, 4, fullest=3)
    assert len(caplog.messages) == 1
    connections.now("gRPC", 5, 4, fullest=4)
    assert len(caplog.messages) == 2
    connections.now("HTTP", 1, 2)
    now = QUIET_SECONDS
    connections.now("HTTP", 2, 2)
    assert len(caplog.messages) == 3
    assert counts(connections) == {"http": 2, "grpc": 5}


@only_on_linux
async def test_the_connections_of_grpc_are_seen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(grpc_server, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(grpc_connections, "LOOK_SECONDS", 0.01)
    looked = asyncio.Event()

    class Noting(Connections):
        def now(self, *args: Any, **kwargs: Any) -> None:
            super().now(*args, **kwargs)
            looked.set()

    connections = Noting()

    async def until(count: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while counts(connections).get("grpc") != count:
                looked.clear()
                await looked.wait()

    async with GrpcServer(FakeService(), port=0) as running:
        watching = asyncio.create_task(watch_grpc_connections(running.port, 2, connections))
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
    usual = front_ends.http_settings
    monkeypatch.setattr(
        front_ends,
        "http_settings",
        lambda settings, address: replace(usual(settings, address), max_connections=3),
    )
    monkeypatch.setattr(grpc_connections, "LOOK_SECONDS", 0.01)
    bridge = start_bridge()
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
        opened = stack.enter_context(
            socket.create_connection(("127.0.0.1", bridge.bridge.grpc_port))
        )
        until('bridge_connections{api="grpc"} 1.0\n')
        opened.close()
        until('bridge_connections{api="grpc"} 0.0\n')
        for _ in range(2):
            stack.enter_context(socket.create_connection(("127.0.0.1", bridge.bridge.http_port)))
        until('bridge_connections{api="http"} 3.0\n')
        assert "all 3 connections of the HTTP API are in use" in caplog.text
