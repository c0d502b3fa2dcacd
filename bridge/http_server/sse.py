"""Server-sent events: the frames, and the response that streams an answer in them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Final, NoReturn

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.core.errors import ClientClosedError
from bridge.core.events import Event, Started
from bridge.http_server.context import HttpSettings, request_id_of
from bridge.http_server.disconnect import disconnected, run_until
from bridge.http_server.encode.base import EventEncoder
from bridge.http_server.request_id import as_bridge_error

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"
IGNORED_HEADER: Final = "x-bridge-ignored-params"

_MAX_NAMES: Final = 20
_MAX_NAME_LENGTH: Final = 64


def data_frame(value: object) -> bytes:
    """Frame a JSON value; it stays on one line."""
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Name the parameters that had no effect. Callers chose the names: not all may pass."""
    safe = dict.fromkeys(
        re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_MAX_NAME_LENGTH] or "_" for name in names
    )
    return {IGNORED_HEADER: ",".join(list(safe)[:_MAX_NAMES])} if safe else {}


class EventStreamResponse(Response):
    """Streams an answer, with its status held back until the first event.

    So an error before it has a status of its own. A comment goes out whenever nothing else
    has for a while; if that is before the first event, the status is 200 from then on.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        encoder: EventEncoder,
        *,
        settings: HttpSettings,
        ignored: tuple[str, ...] = (),
        conclude: Callable[[], Awaitable[bytes]] | None = None,
    ) -> None:
        """`conclude` gives what ends the stream, once the answer is complete."""
        self.background = None
        self._events = events
        self._encoder = encoder
        self._settings = settings
        self._ignored = ignored
        self._conclude = conclude
        self._started = False
        self._active_at = 0.0
        self._writing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the answer ends or the client goes."""
        self._active_at = asyncio.get_running_loop().time()
        try:
            await run_until(
                self._stream(request_id_of(scope), send),
                disconnected(receive),
                self._keep_alive(send),
            )
        except ClientClosedError:
            if not self._started:
                raise

    async def _stream(self, request_id: str, send: Send) -> None:
        encoder = self._encoder
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    if isinstance(event, Started):
                        self._ignored += event.ignored
                    if frame := encoder.feed(event):
                        await self._write(send, frame)
            encoder.check_finished()
            if self._conclude is not None:
                await self._write(send, await self._conclude())
        except ClientClosedError:
            raise
        except Exception as exc:
            if not self._started:
                # Held for good: from now on no comment may come before the error's own reply.
                await self._writing.acquire()
                raise
            error = as_bridge_error(exc, request_id)
            if not encoder.finished:
                await self._write(send, encoder.fail(error, request_id))
        # Sent apart from the last frame: once it is out, servers report a disconnect, and the
        # generator must have ended by itself before that.
        await self._write(send, b"", last=True)

    async def _keep_alive(self, send: Send) -> NoReturn:
        loop = asyncio.get_running_loop()
        seconds = self._settings.keep_alive_seconds
        while True:
            wait = self._active_at + seconds - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                await self._write(send, KEEP_ALIVE)

    async def _write(self, send: Send, frame: bytes, *, last: bool = False) -> None:
        try:
            async with self._writing, asyncio.timeout(self._settings.stalled_client_seconds):
                if not self._started:
                    self._started = True
                    await send(self._head())
                await send({"type": "http.response.body", "body": frame, "more_body": not last})
        except TimeoutError as exc:
            raise ClientClosedError("The client stopped reading the answer.") from exc
        self._active_at = asyncio.get_running_loop().time()

    def _head(self) -> dict[str, object]:
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
            **ignored_header(self._ignored),
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        return {"type": "http.response.start", "status": 200, "headers": raw}
