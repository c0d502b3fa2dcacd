"""HTTP connections with limits that apply before, between and after requests.

uvicorn waits forever for the head of the first request and for a client that does not read, and
accepts any number of connections.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import h11
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from bridge.core.contract import (
    BridgeError,
    InvalidRequestError,
    QueueFullError,
    RequestTimeoutError,
)
from bridge.core.telemetry import Limit, Occupancy
from bridge.http_server.context import REPLICA_HEADER, HttpSettings
from bridge.http_server.dialect import Dialect
from bridge.http_server.feeding import BODY_BYTES, PIECE_BYTES, Feeder

LINGER_SECONDS = 10.0
"""How long the rest of a refused body is read, so that the client can read the refusal."""

FILLER: Final = "filler"
"""A key of a scope's `state`: bytes that may be written between any two pieces of its body."""
FIRST_PROBE_SECONDS: Final = 0.05
MAX_PROBE_SECONDS: Final = 10.0

_TWO_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})
_CLOSE: Final = (b"connection", b"close")


_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_FOLDED: Final = re.compile(rb"\r\n[ \t]")


class _StrictLines(ReceiveBuffer):
    """Rejects header lines that a proxy in front may have read differently.

    The standard lets a server accept a bare LF as the end of a line, and a line that begins with a
    space as a continuation of the one before. A server that does sees other headers than one that
    does not, which is how requests are smuggled. h11 accepts both.
    """

    fault = ""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """The lines of a complete head; raises h11.RemoteProtocolError."""
        before = bytes(self._data)
        lines: list[bytearray] | None = super().maybe_extract_lines()
        if lines is not None:
            head = before[: len(before) - len(self._data)]
            if _BARE_LF.search(head):
                self.fault = "Header lines must end in CRLF, not in LF alone."
            elif _FOLDED.search(head):
                self.fault = "Folded header lines are not supported."
            if self.fault:
                raise h11.RemoteProtocolError(self.fault)
        return lines


class LimitedConnection(H11Protocol):
    """A connection with limits on the time a client may take and on the number of connections.

    Created by `connections`, which sets its settings, the dialect of errors that occur before
    there is a request, and `occupancy`, which is told how many there are.
    """

    settings: HttpSettings
    dialect: Dialect
    occupancy: Occupancy
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _probe_timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Turn off uvicorn's access log: callers could write into it."""
        super().__init__(*args, **kwargs)
        self.access_log = False
        self._lines = _StrictLines()
        self.conn._receive_buffer = self._lines
        self.timeout_keep_alive = self.settings.idle_connection_seconds

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for a request, unless there are too many connections."""
        super().connection_made(transport)
        self._feeder = Feeder(transport, self.loop, self._take, self._piece_bytes)
        self.flow = self._feeder
        limit = self.settings.max_connections
        self._count()
        if len(self.connections) > limit:
            self.occupancy.refused(Limit.HTTP_CONNECTIONS)
            self._refuse(
                QueueFullError(
                    f"The server already has {limit} connections, its limit.", retry_after=1
                )
            )
        else:
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Process the client's bytes in small steps."""
        self._feeder.feed(data)

    def _take(self, data: bytes) -> None:
        """Process a piece, unless the client has declared its last request to be its last."""
        if self.conn.their_state is not h11.MUST_CLOSE and not self.transport.is_closing():
            super().data_received(data)
            self._watch_head()

    def _piece_bytes(self) -> int:
        inside = self.conn.their_state is h11.SEND_BODY
        if inside and all(name != b"transfer-encoding" for name, _ in self.headers):
            return BODY_BYTES
        return PIECE_BYTES

    def handle_events(self) -> None:
        """Close the connection after a request that gives its length in two ways.

        A proxy in front may have used the other one, and would take what follows for something
        else.
        """
        super().handle_events()
        names = {name for name, _ in self.headers or ()}
        if names >= _TWO_LENGTHS and _CLOSE not in self.headers:
            # uvicorn repeats it in the reply, after which h11 accepts nothing more.
            self.headers.append(_CLOSE)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the connection of a client that may have closed only its sending side.

        Only for HTTP/1.1 without TLS, where it can be checked whether the client still reads.
        """
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or not self._is_answering() or cycle.more_body:
            return None
        old = cycle.scope["http_version"] != "1.1"
        if old or self.transport.get_extra_info("sslcontext") is not None:
            return None
        self._probe(FIRST_PROBE_SECONDS)
        return True

    def _probe(self, again: float) -> None:
        """Write something harmless, so that a client that is gone resets the connection.

        This is repeated: a proxy forwards the first and only then notices that its client is gone.
        """
        cycle: RequestResponseCycle = self.cycle
        if self.transport.is_closing() or not self._is_answering():
            return
        peer = self.transport.get_extra_info("socket")
        if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            # The connection is no longer read, so nothing else reports this.
            self.transport.abort()
            return
        if not cycle.response_started:
            interim = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            self.transport.write(self.conn.send(interim) or b"")
        elif filler := cycle.scope["state"].get(FILLER):
            self.transport.write(self.conn.send(h11.Data(data=filler)) or b"")
        self._probe_timer = self.loop.call_later(
            again, self._probe, min(again * 4, MAX_PROBE_SECONDS)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        self._feeder.stop()
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)
        self._count()

    def _count(self) -> None:
        most = self.settings.max_connections
        self.occupancy.now(Limit.HTTP_CONNECTIONS, len(self.connections), most)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that is no longer needed."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._start_write_timer()
        if self._is_answering() or self.transport.is_closing():
            # The next request has already arrived.
            return
        if self._probe_timer is not None:
            self.transport.close()
            return
        if self.conn.their_state is h11.SEND_BODY:
            self._stop_head_timer()
            self._head_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read."""
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        """Stop the timer: the client reads again."""
        super().resume_writing()
        self._stop_write_timer()

    def send_400_response(self, msg: str) -> None:
        self._refuse(InvalidRequestError(self._lines.fault or msg, reason="INVALID_HTTP"))

    def _is_answering(self) -> bool:
        """Whether the head of a request is complete and its answer is not.

        h11's state does not show it: a complete request is DONE, MUST_CLOSE (HTTP/1.0, `Connection:
        close`) or MIGHT_SWITCH_PROTOCOL (`Upgrade`).
        """
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _watch_head(self) -> None:
        """Limit the time for the head of a request, from its first byte to its last."""
        if self._is_answering():
            self._stop_head_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(
                self.settings.head_seconds, self._on_head_timeout
            )

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _start_write_timer(self) -> None:
        """Limit the time for the client to read what was written."""
        if self._write_timer is None:
            seconds = self.settings.stalled_client_seconds
            self._write_timer = self.loop.call_later(seconds, self._on_write_timeout)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _on_write_timeout(self) -> None:
        self._write_timer = None
        # An orderly close would wait until the client has read the last byte.
        if self.flow.write_paused or self.transport.is_closing():
            self.transport.abort()

    def _on_head_timeout(self) -> None:
        seconds = self.settings.head_seconds
        self._refuse(RequestTimeoutError(f"The request did not arrive within {seconds:g} seconds."))

    def _refuse(self, error: BridgeError) -> None:
        """Send an error without a request, and close; if an answer has begun, only close."""
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        response = self.dialect.error_response(error, "")
        response.headers["connection"] = "close"
        if self.settings.replica:
            response.headers[REPLICA_HEADER] = self.settings.replica
        phrase = HTTPStatus(response.status_code).phrase
        head = [f"HTTP/1.1 {response.status_code} {phrase}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        head += [b"", b""]
        self.transport.write(b"\r\n".join(head) + bytes(response.body))
        self.transport.close()


def connections(
    settings: HttpSettings, dialects: Sequence[Dialect], occupancy: Occupancy | None = None
) -> type[LimitedConnection]:
    """Return the class of a server's connections, for `uvicorn.Config(http=…)`."""
    members = {
        "settings": settings,
        "dialect": dialects[0],
        "occupancy": occupancy or Occupancy(),
    }
    return type("Connection", (LimitedConnection,), members)
