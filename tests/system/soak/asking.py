"""How the soak's callers ask: the same request through either API, and how they behave.

Nothing is retried: what comes back is the bridge's first answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import httpx

from bridge.core.contract.request import CompletionRequest, Message, OutputFormat, OutputKind, Tool
from bridge.v1 import completion_pb2 as pb
from tests.support.encoding import chat_body, proto
from tests.support.front_ends import ApiCall
from tests.support.grpc.client import complete
from tests.support.http.client import CHAT, HttpCall, Json
from tests.support.replies import GONE, Failure, Reply


@dataclass(frozen=True)
class Ask:
    """A request, and how its caller behaves."""

    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[str, ...] = ()
    schema: Json | None = None
    stream: bool = True
    leave_after: int | None = None
    """Go away after so many pieces."""
    timeout: float = 120.0
    """Seconds until the caller goes away (HTTP), or the call's deadline (gRPC)."""
    pause: float = 0.0
    """Seconds between pieces."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """More of the HTTP body; over gRPC anything here stands for a request that is wrong."""

    @property
    def request(self) -> CompletionRequest:
        output = OutputFormat()
        if self.schema is not None:
            output = OutputFormat(OutputKind.JSON_SCHEMA, schema=self.schema)
        tools = tuple(Tool(name) for name in self.tools)
        return CompletionRequest(
            self.messages, system=self.system, tools=tools, output_format=output
        )


class Api(Protocol):
    """One of the APIs."""

    name: str

    async def ask(self, ask: Ask) -> Reply:
        """Send a request and take what comes."""
        ...


class HttpApi:
    """Chat completions, and completions."""

    name = "http"

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, ask: Ask) -> Reply:
        body = {"model": "default", **chat_body(ask.request), "stream": ask.stream, **ask.extra}
        return await self.post(CHAT, body, ask)

    async def post(self, path: str, body: Json, ask: Ask) -> Reply:
        """Send a body and take what comes."""
        call = HttpCall(self._client, body, path=path)
        try:
            async with asyncio.timeout(ask.timeout):
                return await _taken(call, ask)
        except TimeoutError:
            call.reply.failure = Failure(GONE)
            return call.reply
        finally:
            await call.leave()


class GrpcApi:
    """`CompletionService.Complete`."""

    name = "grpc"

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def ask(self, ask: Ask) -> Reply:
        request = proto(ask.request)
        if ask.extra:
            request.completion.model = "no such claude"
            request.completion.messages.add(role=pb.ROLE_UNSPECIFIED)
        return await _taken(complete(self.channel, request, timeout=ask.timeout), ask)


async def _taken(call: ApiCall, ask: Ask) -> Reply:
    pieces = 0
    while await call.read():
        pieces += 1
        if ask.leave_after is not None and pieces > ask.leave_after:
            await call.leave()
            call.reply.failure = Failure(GONE)
            break
        if ask.pause:
            await asyncio.sleep(ask.pause)
    return call.reply
