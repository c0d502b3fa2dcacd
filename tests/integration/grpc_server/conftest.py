from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest

from bridge.core.ledger import Ledger
from bridge.grpc_server.server import GrpcServer
from tests.support.fakes import FakeService

Serve: TypeAlias = Callable[..., Awaitable[tuple[GrpcServer, grpc.aio.Channel]]]


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def serve(service: FakeService, tmp_path: Path) -> AsyncGenerator[Serve, None]:
    """Start a server with the options given, and a channel to it; both end with the test."""
    async with AsyncExitStack() as stack:
        ledger = Ledger(tmp_path / "ledger.sqlite3")
        stack.push_async_callback(ledger.aclose)

        async def start(
            *, channel_options: list[tuple[str, object]] | None = None, **options: object
        ) -> tuple[GrpcServer, grpc.aio.Channel]:
            options.setdefault("ledger", ledger)
            server = GrpcServer(service, port=0, **options)  # type: ignore[arg-type]
            await stack.enter_async_context(server)
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=channel_options)
            await stack.enter_async_context(channel)
            return server, channel

        yield start
