"""Both doors over one engine, and a caller that a test can drive through either."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import httpx
import uvicorn
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bridge.core.contract.service import Service
from bridge.grpc_server.server import GrpcServer
from bridge.http_server import HttpSettings, all_dialects, create_app
from bridge.server.front_ends import HttpServer
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import completion_pb2_grpc as pb_grpc
from tests.support.harness import PATIENCE


@dataclass(frozen=True, slots=True)
class Failure:
    """What a caller is told of an error, over either door."""

    status: int | str
    reason: str
    retry_after: float | None
    message: str


@dataclass
class Asked:
    """What a caller asks for."""

    texts: tuple[str, ...]
    """By turns the user's and the model's."""
    system: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Seconds by the name of the limit, such as `idle`; `total` is the whole."""
    tools: tuple[str, ...] = ()


class Caller(Protocol):
    """One request, from its beginning to its end."""

    async def begin(self, asked: Asked) -> None:
        """Send the request."""
        ...

    async def first_text(self) -> None:
        """Wait for text of the answer."""
        ...

    async def rest(self) -> str | Failure:
        """Wait for the end: the rest of the text, or what went wrong."""
        ...

    async def leave(self) -> None:
        """Go away."""
        ...


class HttpCaller:
    """A caller of chat completions."""

    def __init__(self, url: str, *, stream: bool = True) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=PATIENCE)
        self._stream = stream
        self._lines: asyncio.Queue[str | httpx.Response | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.comments = 0

    async def begin(self, asked: Asked) -> None:
        roles = ("user", "assistant")
        said = [{"role": roles[i % 2], "content": text} for i, text in enumerate(asked.texts)]
        system = [{"role": "system", "content": asked.system}] if asked.system else []
        body: dict[str, Any] = {"messages": [*system, *said], "stream": self._stream}
        if asked.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": name}} for name in asked.tools
            ]
        names = {"total": "x-bridge-timeout"}
        headers = {
            names.get(name, f"x-bridge-{name.replace('_', '-')}-timeout"): str(seconds)
            for name, seconds in asked.limits.items()
        }
        request = self._client.build_request(
            "POST", "/v1/chat/completions", json=body, headers=headers
        )
        self._task = asyncio.create_task(self._read(request))

    async def _read(self, request: httpx.Request) -> None:
        response = await self._client.send(request, stream=True)
        try:
            if not response.headers["content-type"].startswith("text/event-stream"):
                await response.aread()
                self._lines.put_nowait(response)
                return
            async for line in response.aiter_lines():
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    self._lines.put_nowait(line.removeprefix("data: "))
            self._lines.put_nowait(None)
        finally:
            await response.aclose()

    async def _next(self) -> str | httpx.Response | None:
        return await asyncio.wait_for(self._lines.get(), PATIENCE)

    async def first_text(self) -> None:
        while True:
            line = await self._next()
            assert isinstance(line, str), line
            if json.loads(line)["choices"][0]["delta"].get("content"):
                return

    async def rest(self) -> str | Failure:
        text = ""
        try:
            while (line := await self._next()) != "[DONE]":
                if isinstance(line, httpx.Response):
                    return _whole(line)
                assert line is not None, "the stream was cut"
                chunk = json.loads(line)
                if "error" in chunk:
                    error = chunk["error"]
                    return Failure(200, error["code"], None, error["message"])
                text += chunk["choices"][0]["delta"].get("content") or ""
            return text
        finally:
            await self.leave()

    async def leave(self) -> None:
        assert self._task is not None
        # First the reader: on a client that is closed it would fail with nobody to hear of it.
        self._task.cancel()
        await asyncio.wait((self._task,))
        await self._client.aclose()


def _whole(response: httpx.Response) -> str | Failure:
    content = response.json()
    if response.status_code == 200:
        return str(content["choices"][0]["message"]["content"])
    error = content["error"]
    after = response.headers.get("retry-after")
    return Failure(
        response.status_code,
        error["code"],
        None if after is None else float(after),
        error["message"],
    )


class GrpcCaller:
    """A caller of Complete."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target)
        self._call: grpc.aio.UnaryStreamCall[Any, pb.CompleteResponse] | None = None

    async def begin(self, asked: Asked) -> None:
        roles = (pb.ROLE_USER, pb.ROLE_ASSISTANT)
        request = pb.CompleteRequest(
            messages=[
                pb.Message(role=roles[i % 2], parts=[pb.Part(text=text)])
                for i, text in enumerate(asked.texts)
            ],
            system=asked.system,
            tools=[pb.Tool(name=name) for name in asked.tools],
        )
        limits = dict(asked.limits)
        timeout = limits.pop("total", PATIENCE)
        metadata = [
            (f"x-bridge-{name.replace('_', '-')}-timeout", str(seconds))
            for name, seconds in limits.items()
        ]
        self._call = pb_grpc.CompletionServiceStub(self._channel).Complete(
            request, timeout=timeout, metadata=metadata
        )

    async def _read(self) -> pb.CompleteResponse | None:
        assert self._call is not None
        response = await asyncio.wait_for(self._call.read(), PATIENCE)
        return response if isinstance(response, pb.CompleteResponse) else None

    async def first_text(self) -> None:
        while (response := await self._read()) is not None:
            if response.text_delta.text:
                return
        raise AssertionError("no text")

    async def rest(self) -> str | Failure:
        text = ""
        try:
            while (response := await self._read()) is not None:
                text += response.text_delta.text
        except grpc.aio.AioRpcError as error:
            return _failure(error)
        finally:
            await self._channel.close()
        return text

    async def leave(self) -> None:
        assert self._call is not None
        self._call.cancel()
        await self._channel.close()


def _failure(error: grpc.aio.AioRpcError) -> Failure:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # its trailers are what counts
    reason, after = "", None
    for detail in status.details if status is not None else ():
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            after = retry.retry_delay.ToMilliseconds() / 1000
    return Failure(error.code().name, reason, after, error.details() or "")


@dataclass(frozen=True)
class Doors:
    """Where the doors are."""

    url: str
    target: str

    def caller(self, kind: str) -> Caller:
        """A caller by `KINDS`."""
        if kind == "grpc":
            return GrpcCaller(self.target)
        return HttpCaller(self.url, stream=kind == "stream")

    async def ask(self, kind: str, *texts: str, **options: Any) -> str | Failure:
        """Ask and wait for the end."""
        caller = self.caller(kind)
        await caller.begin(Asked(texts, **options))
        return await caller.rest()


KINDS = ("stream", "whole", "grpc")
"""How a caller comes: over HTTP for a stream or for a whole reply, or over gRPC."""


@asynccontextmanager
async def both_doors(
    service: Service, *, keep_alive: float = 10.0, stall: float = 60.0
) -> AsyncIterator[Doors]:
    """Serve by both doors, on the loop of the test.

    `keep_alive` is when a silent stream gets a comment, `stall` how long a client may leave its
    answer unread.
    """
    settings = HttpSettings(keep_alive_seconds=keep_alive, stalled_client_seconds=stall)
    app = create_app(service, all_dialects(), version="1.2.3", settings=settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Inherited by what is accepted: so that little is on its way to one who does not read.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        server = HttpServer(
            uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=5)
        )
        serving = asyncio.create_task(server.serve([listener]))
        async with GrpcServer(service, port=0, stall_seconds=stall) as grpc_server:
            yield Doors(
                f"http://127.0.0.1:{listener.getsockname()[1]}",
                f"127.0.0.1:{grpc_server.port}",
            )
        server.should_exit = True
        await serving
