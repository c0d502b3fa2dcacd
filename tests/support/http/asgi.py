"""One exchange with an ASGI app, message by message, with the client played by the test."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

from bridge.core.access.authentication import Access
from bridge.core.answers import ResponseStore
from bridge.http_server import HttpSettings, all_dialects, create_app
from tests.support.fakes import FakeService

CLOCK = 1_700_000_000.9
HEALTH = ("/health", "/readyz")
"""URLs whose status is their answer: 503 is no error."""


def build(
    service: FakeService,
    settings: HttpSettings | None = None,
    store: ResponseStore | None = None,
    access: Access | None = None,
) -> FastAPI:
    """An app whose ids count up and whose clock stands still."""
    ids = itertools.count(1)
    return create_app(
        service,
        all_dialects(store),
        version="1.2.3",
        settings=settings,
        access=access,
        clock=lambda: CLOCK,
        timer=itertools.count(0.0, 0.25).__next__,
        new_id=lambda: f"{next(ids):04x}",
    )


class Exchange:
    """A request that runs in a task, and what has been answered so far."""

    def __init__(
        self,
        app: FastAPI,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        chunks: list[bytes] | None = None,
    ) -> None:
        if chunks is None:
            chunks = [b"" if body is None else json.dumps(body).encode()]
        self._chunks = chunks
        self._gone = asyncio.Event()
        self._changed = asyncio.Condition()
        self.blocked: asyncio.Event | None = None
        """Set this, and the client reads no further until the event comes."""
        self.broken_after: int | None = None
        """Set this, and the connection breaks after so many messages of the reply."""
        self.attempts: list[str] = []
        """The types of all messages, also of those that did not get through."""
        self.messages: list[dict[str, Any]] = []
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [
                (k.lower().encode(), v.encode())  # in lower case, as servers give them
                for k, v in {"host": "127.0.0.1:8000", **(headers or {})}.items()
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        self._task = asyncio.create_task(app(self.scope, self._receive, self._send))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        if self._chunks:
            return {
                "type": "http.request",
                "body": self._chunks.pop(0),
                "more_body": bool(self._chunks),
            }
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if self.blocked is not None:
            await self.blocked.wait()
        self.attempts.append(message["type"])
        if len(self.messages) == self.broken_after:
            raise OSError("broken pipe")
        async with self._changed:
            self.messages.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                # From here on a server reports a disconnect, whether or not there was one.
                self._gone.set()
            self._changed.notify_all()

    @property
    def unread(self) -> int:
        """How many pieces of the body the app has not asked for."""
        return len(self._chunks)

    def leave(self) -> None:
        """The client closes the connection."""
        self._gone.set()

    def cancel(self) -> None:
        """The server gives the request up."""
        self._task.cancel()

    async def until(self, arrived: Callable[[Exchange], bool]) -> None:
        """Wait for something to have been answered."""
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: arrived(self))

    async def finished(self) -> Exchange:
        """Wait for the app to be done with the request."""
        async with asyncio.timeout(5):
            await self._task
        return self

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode().lower(): v.decode() for k, v in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def complete(self) -> bool:
        """Whether the reply was ended as it should be."""
        return bool(self.messages) and self.messages[-1].get("more_body", False) is False

    @property
    def json(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


async def ask(
    app: FastAPI,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    chunks: list[bytes] | None = None,
) -> Exchange:
    """Send a request and wait for its whole answer."""
    exchange = await Exchange(app, method, path, body, headers, chunks).finished()
    if exchange.messages and path not in HEALTH:
        # Proxies decide by this header whether to retry.
        assert ("x-bridge-error" in exchange.headers) is (exchange.status >= 400), path
    return exchange


async def chat(
    app: FastAPI, headers: Mapping[str, str] | None = None, **parameters: Any
) -> Exchange:
    """Ask for a chat completion and wait for the whole answer."""
    body = {"messages": [{"role": "user", "content": "hi"}], "model": "opus", **parameters}
    return await ask(app, "POST", "/v1/chat/completions", body, headers)


def frames(body: bytes) -> list[Any]:
    """The events of a stream: parsed JSON, and text where it is none."""
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    parsed: list[Any] = []
    for block in blocks:
        assert "\n" not in block
        if block.startswith(":") or block == "data: [DONE]":
            parsed.append(block)
        else:
            parsed.append(json.loads(block.removeprefix("data: ")))
    return parsed
