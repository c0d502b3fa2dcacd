"""Gives every request an id and a dialect, every reply its headers, every error a body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.core.telemetry import TraceContext, incoming_trace
from bridge.http_server.context import REPLICA_HEADER
from bridge.http_server.dialect import Dialect
from bridge.http_server.errors import as_bridge_error


class RequestIdMiddleware:
    """Assigns a request its id and its dialect, and answers errors raised inside.

    Plain ASGI, so that a streamed chunk costs one call here and no task or queue. The id is always
    new: one chosen by a client could be used twice, and logs are searched by it.
    """

    def __init__(
        self,
        app: ASGIApp,
        dialect_for: Callable[[Scope], Dialect],
        new_id: Callable[[], str],
        timer: Callable[[], float],
        limit_headers: Callable[[Dialect, str], Awaitable[Mapping[str, str]]],
        replica: str = "",
    ) -> None:
        """`limit_headers` returns those of a dialect that show the limits of a key.

        `replica` is the name of this server; empty if it has none.
        """
        self._app = app
        self._dialect_for = dialect_for
        self._new_id = new_id
        self._timer = timer
        self._limit_headers = limit_headers
        self._own_headers = {REPLICA_HEADER: replica} if replica else {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{self._new_id()}"
        dialect = self._dialect_for(scope)
        scope.setdefault("state", {}).update(request_id=request_id, dialect=dialect)
        headers = Headers(scope=scope)
        if parent := headers.get("traceparent"):
            incoming_trace.set(TraceContext(parent, headers.get("tracestate", "")))
        began = self._timer()
        started = False

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                reply = MutableHeaders(scope=message)
                reply.update(self._own_headers)
                reply.update(dialect.reply_headers(request_id, self._timer() - began))
                if caller := scope["state"].get("caller"):
                    reply.update(await self._limit_headers(dialect, caller))
                for name, value in scope["state"].get("reply_headers", {}).items():
                    reply.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception as exc:
            error = as_bridge_error(exc, request_id)
            if started:
                # It is too late for an error reply: the server aborts the connection.
                raise
            response = dialect.error_response(error, request_id, scope)
            await response(scope, receive, send_named)
