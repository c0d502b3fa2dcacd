"""Server-sent events: frames, and the response that streams an answer as frames."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from enum import Enum, auto
from typing import Final, NoReturn, Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.core.contract import ClientClosedError, Event, Started
from bridge.http_server.connection import FILLER
from bridge.http_server.context import HttpSettings, request_id_of
from bridge.http_server.disconnect import disconnected, run_until
from bridge.http_server.errors import as_bridge_error
from bridge.http_server.event_encoder import EventEncoder

IGNORED_HEADER: Final = "x-bridge-ignored-params"
PAYER_HEADER: Final = "x-bridge-payer"

_HIGH_WATER: Final = 64 * 1024
"""Bytes of unsent frames beyond which the answer waits."""
_MAX_NAMES: Final = 20
_MAX_NAME_LENGTH: Final = 64


def data_frame(value: object) -> bytes:
    """Encode a JSON value as a frame; it stays on one line."""
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Return the header with the parameters that had no effect, without unsafe names."""
    safe = dict.fromkeys(
        re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:_MAX_NAME_LENGTH] or "_" for name in names
    )
    return {IGNORED_HEADER: ",".join(list(safe)[:_MAX_NAMES])} if safe else {}


def payer_header(payer: str) -> dict[str, str]:
    """Return the header with the payer of an answer, if the server has a list of them."""
    return {PAYER_HEADER: payer} if payer else {}


class EventStreamResponse(Response):
    """Streams an answer; its status is not sent before the first event.

    So an error before it has its own status. What the encoder has for that is sent after each
    period of silence; if it is before the first event, the status is 200 from then on.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        encoder: EventEncoder,
        *,
        settings: HttpSettings,
        ignored: tuple[str, ...] = (),
        payer: str = "",
        conclude: Callable[[], Awaitable[bytes]] | None = None,
        opening: bytes = b"",
    ) -> None:
        """`ignored` and `payer` are known before the first event.

        `conclude` returns what ends the stream, once the answer is complete; `opening` is sent at
        once.
        """
        self.background = None
        self._events = events
        self._encoder = encoder
        self._settings = settings
        self._ignored = ignored
        self._payer = payer
        self._conclude = conclude
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the answer ends or the client disconnects."""
        filler = self._encoder.keep_alive
        writer = FrameWriter(send, self._settings, self._head, filler)
        scope.get("state", {})[FILLER] = filler
        try:
            await run_until(
                self._stream(request_id_of(scope), writer),
                disconnected(receive),
                writer.watch(),
            )
        except ClientClosedError:
            if not writer.started:
                raise

    async def _stream(self, request_id: str, writer: FrameWriter) -> None:
        async with writer:
            try:
                await self._answer(writer)
            except ClientClosedError:
                writer.refuse()
                raise
            except Exception as exc:
                if not writer.started:
                    # From now on, no comment may precede the error's own reply.
                    writer.refuse()
                    raise
                error = as_bridge_error(exc, request_id)
                if not self._encoder.finished:
                    writer.write(self._encoder.fail(error, request_id))
            await writer.finish()

    async def _answer(self, writer: FrameWriter) -> None:
        feed = self._encoder.feed
        async with aclosing(self._events) as events:
            if self._opening:
                writer.write(self._opening)
            async for event in events:
                if isinstance(event, Started):
                    self._ignored += event.ignored
                    self._payer = event.payer
                if frame := feed(event):
                    writer.write(frame)
                    if writer.full:
                        await writer.emptied()
        self._encoder.check_finished()
        if self._conclude is not None:
            writer.write(await self._conclude())

    def _head(self) -> dict[str, object]:
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
            **ignored_header(self._ignored),
            **payer_header(self._payer),
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        return {"type": "http.response.start", "status": 200, "headers": raw}


class _Phase(Enum):
    """The phase of a stream."""

    OPEN = auto()
    REFUSED = auto()
    """No more comments are sent."""
    FINISHING = auto()
    OVER = auto()
    """Its writer has ended."""


class FrameWriter:
    """Writes frames to the client from its own task.

    Frames written while the loop is busy are sent together, so a burst of tokens costs one system
    call instead of one each. A write that waits for the client longer than
    `stalled_client_seconds`, and a silence longer than `keep_alive_seconds`, are detected by one
    coroutine, `watch`: no token starts a timer.
    """

    def __init__(
        self,
        send: Send,
        settings: HttpSettings,
        head: Callable[[], dict[str, object]],
        filler: bytes,
    ) -> None:
        self._send = send
        self._settings = settings
        self._head = head
        self._filler = filler
        self._frames: list[bytes] = []
        self._size = 0
        self._wake = asyncio.Event()
        self._emptied = asyncio.Event()
        self._time = asyncio.get_running_loop().time
        self._active_at = self._time()
        self._waiting_since: float | None = None
        self._phase = _Phase.OPEN
        self._task: asyncio.Task[None] | None = None
        self.started = False
        """Whether the reply has begun, so that its status is 200."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    def write(self, frame: bytes) -> None:
        """Queue a frame; it is sent on the loop's next iteration."""
        self.started = True
        self._frames.append(frame)
        self._size += len(frame)
        self._wake.set()

    @property
    def full(self) -> bool:
        """Whether the answer should wait: for the client, or because a write has failed."""
        return self._size > _HIGH_WATER or self._phase is _Phase.OVER

    async def emptied(self) -> None:
        """Wait until everything written is sent; raises what a write has raised."""
        assert self._task is not None
        self._emptied.clear()
        if self._phase is not _Phase.OVER:
            await self._emptied.wait()
        if self._phase is _Phase.OVER:
            await self._task

    def refuse(self) -> None:
        """Send no more comments: the error has its own reply, or the client is gone."""
        if self._phase is _Phase.OPEN:
            self._phase = _Phase.REFUSED

    async def finish(self) -> None:
        """Send the rest, and end the reply."""
        assert self._task is not None
        if self._phase is not _Phase.OVER:
            self._phase = _Phase.FINISHING
        self._wake.set()
        await self._task

    async def watch(self) -> NoReturn:
        """Send comments during silence, and raise ClientClosedError if the client stalls."""
        silence, stalled = self._settings.keep_alive_seconds, self._settings.stalled_client_seconds
        while True:
            now, since = self._time(), self._waiting_since
            if since is not None and now - since >= stalled:
                raise ClientClosedError("The client stopped reading the answer.")
            if since is None and self._phase is _Phase.OPEN and now - self._active_at >= silence:
                self._active_at = now
                self.write(self._filler)
            due = self._active_at + silence if since is None else since + stalled
            # A write that starts meanwhile has its own time limit.
            await asyncio.sleep(min(max(due - now, 0.0), silence, stalled))

    async def _run(self) -> None:
        try:
            await self._write_all()
        finally:
            self._phase = _Phase.OVER
            self._emptied.set()

    async def _write_all(self) -> None:
        begun = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not begun and self._frames:
                begun = True
                await self._pass_on(self._head())
            if self._frames:
                body = b"".join(self._frames)
                self._frames.clear()
                self._size = 0
                await self._pass_on(_body(body, more=True))
            self._active_at = self._time()
            self._emptied.set()
            if self._phase is _Phase.FINISHING and not self._frames:
                # Separate from the last frame: once that is sent, servers report a disconnect, and
                # the generator must have ended by itself before.
                await self._pass_on(_body(b"", more=False))
                return

    async def _pass_on(self, message: dict[str, object]) -> None:
        self._waiting_since = self._time()
        await self._send(message)
        self._waiting_since = None


def _body(body: bytes, *, more: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}
