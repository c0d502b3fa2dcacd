"""Both APIs over one engine, on the loop of the test, and requests through either."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import grpc
import httpx
import uvicorn

from bridge.core.contract.request import CompletionRequest, Message, Role, TextPart, Tool
from bridge.core.contract.service import Service
from bridge.grpc_server.server import GrpcServer
from bridge.http_server import HttpSettings, all_dialects, create_app
from bridge.server.front_ends import HttpServer
from tests.support.encoding import chat_body, proto
from tests.support.grpc.client import GrpcCall, complete
from tests.support.harness import PATIENCE
from tests.support.http.client import HttpCall
from tests.support.replies import Failure

KINDS = ("stream", "whole", "grpc")
"""How a request is sent: over HTTP for a stream or for a whole answer, or over gRPC."""

ApiCall: TypeAlias = HttpCall | GrpcCall


@dataclass(frozen=True)
class Apis:
    """Where both APIs are, with a connection to each."""

    url: str
    target: str
    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    def call(
        self,
        kind: str,
        *texts: str,
        system: str = "",
        tools: tuple[str, ...] = (),
        limits: Mapping[str, float] | None = None,
    ) -> ApiCall:
        """Send a request, by `KINDS`.

        `texts` are by turns the user's and the model's, `limits` seconds by the name of a time
        limit, such as `idle`; `total` is that of the whole.
        """
        roles = (Role.USER, Role.ASSISTANT)
        request = CompletionRequest(
            tuple(Message(roles[i % 2], (TextPart(text),)) for i, text in enumerate(texts)),
            system=system,
            tools=tuple(Tool(name) for name in tools),
        )
        headers = {
            f"x-bridge-{name.replace('_', '-')}-timeout": str(seconds)
            for name, seconds in (limits or {}).items()
        }
        total = headers.pop("x-bridge-total-timeout", None)
        if kind == "grpc":
            timeout = PATIENCE if total is None else float(total)
            metadata = tuple(headers.items())
            return complete(self.channel, proto(request), timeout=timeout, metadata=metadata)
        if total is not None:
            headers["x-bridge-timeout"] = total
        body = {**chat_body(request), "stream": kind == "stream"}
        return HttpCall(self.http, body, headers=headers)

    async def ask(
        self,
        kind: str,
        *texts: str,
        system: str = "",
        tools: tuple[str, ...] = (),
        limits: Mapping[str, float] | None = None,
    ) -> str | Failure:
        """Send a request and wait for the end: the text, or what went wrong."""
        call = self.call(kind, *texts, system=system, tools=tools, limits=limits)
        return (await call.finish()).outcome


@asynccontextmanager
async def connected(url: str, target: str) -> AsyncIterator[Apis]:
    """Connect to a bridge that serves both."""
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as http,
        grpc.aio.insecure_channel(target) as channel,
    ):
        yield Apis(url, target, http, channel)


@asynccontextmanager
async def both_apis(
    service: Service,
    *,
    keep_alive: float = 10.0,
    stall: float = 60.0,
    hosts: tuple[str, ...] = (),
) -> AsyncIterator[Apis]:
    """Serve both, on the loop of the test.

    `keep_alive` is when a silent stream gets a comment or a heartbeat, `stall` how long a client
    may leave its answer unread, `hosts` are further names of the server.
    """
    settings = HttpSettings(
        keep_alive_seconds=keep_alive, stalled_client_seconds=stall, allowed_hosts=hosts
    )
    app = create_app(service, all_dialects(), version="1.2.3", settings=settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Inherited by what is accepted: so that little is on its way to one who does not read.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        server = HttpServer(
            uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
        )
        serving = asyncio.create_task(server.serve([listener]))
        async with (
            GrpcServer(
                service, port=0, stall_seconds=stall, heartbeat_seconds=keep_alive
            ) as grpc_server,
            connected(
                f"http://127.0.0.1:{listener.getsockname()[1]}", f"127.0.0.1:{grpc_server.port}"
            ) as apis,
        ):
            yield apis
        server.should_exit = True
        await serving
