"""The server's side of an HTTP connection: limits that come before there is a request, and after.

uvicorn waits without end for the head of a first request and for a client that does not read, and
takes any number of connections.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from bridge.core.contract import (
    BridgeError,
    InvalidRequestError,
    QueueFullError,
    RequestTimeoutError,
)
from bridge.http_server.context import HttpSettings
from bridge.http_server.errors import error_response

LINGER_SECONDS = 10.0
"""How long the rest of a body that was refused is read, so that the refusal can be read."""


class GuardedConnection(H11Protocol):
    """A connection on which a client can not take all the time in the world.

    Made by `connections`, which gives it its settings.
    """

    guard_settings: HttpSettings
    _guard: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Log no addresses, even where the log of accesses is on: callers can write into them."""
        super().__init__(*args, **kwargs)
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, unless there are too many connections already."""
        super().connection_made(transport)
        limit = self.guard_settings.max_connections
        if len(self.connections) > limit:
            self._refuse(QueueFullError(f"There are {limit} connections already.", retry_after=1))
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, but nothing behind a request that it said is its last."""
        if self.conn.their_state is not h11.MUST_CLOSE:
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everything go."""
        self._unwatch()
        self._is_read()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that is not wanted any more."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._is_to_be_read()
        if self._answers() or self.transport.is_closing():
            # The next request had come already.
            return
        if self.conn.their_state is h11.SEND_BODY:
            self._unwatch()
            self._guard = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        self._is_to_be_read()

    def resume_writing(self) -> None:
        """It reads."""
        super().resume_writing()
        self._is_read()

    def send_400_response(self, msg: str) -> None:
        """Say in OpenAI's form that this is no HTTP."""
        self._refuse(InvalidRequestError(msg, reason="INVALID_HTTP"))

    def _answers(self) -> bool:
        """Whether there is a request, of which the whole head has come, without its whole answer.

        Not told by h11's state, of which there are many: a whole request is DONE, MUST_CLOSE
        (HTTP/1.0, `Connection: close`) or MIGHT_SWITCH_PROTOCOL (`Upgrade`).
        """
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _watch(self) -> None:
        """Limit the time for the head of a request, from its first byte to its last."""
        if self._answers():
            self._unwatch()
        elif self._guard is None and not self.transport.is_closing():
            self._guard = self.loop.call_later(self.guard_settings.head_seconds, self._late)

    def _unwatch(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None

    def _is_to_be_read(self) -> None:
        """Limit the time for the client to take what was written."""
        if self._unread is None:
            seconds = self.guard_settings.stalled_client_seconds
            self._unread = self.loop.call_later(seconds, self._give_up)

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _give_up(self) -> None:
        self._unread = None
        # To be closed in good order, a connection waits for its last byte to be taken.
        if self.flow.write_paused or self.transport.is_closing():
            self.transport.abort()

    def _late(self) -> None:
        seconds = self.guard_settings.head_seconds
        self._refuse(RequestTimeoutError(f"The request did not come within {seconds:g} seconds."))

    def _refuse(self, error: BridgeError) -> None:
        """Answer without a request, and close; only close where an answer has begun."""
        self._unwatch()
        if self.transport.is_closing():
            return
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        response = error_response(error, "")
        phrase = HTTPStatus(response.status_code).phrase
        head = [f"HTTP/1.1 {response.status_code} {phrase}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        head += [b"connection: close", b"", b""]
        self.transport.write(b"\r\n".join(head) + bytes(response.body))
        self.transport.close()


def connections(settings: HttpSettings) -> type[GuardedConnection]:
    """The class of a server's connections, for `uvicorn.Config(http=…)`."""
    return type("Connection", (GuardedConnection,), {"guard_settings": settings})
