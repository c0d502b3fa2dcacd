"""The outermost layer: every request gets an id, every reply its headers, every error a body."""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.core.contract import BridgeError, InternalError
from bridge.core.telemetry import TraceContext, incoming_trace, kind_of, trace_of
from bridge.http_server.errors import PARAMS, error_response

logger = logging.getLogger(__name__)

OPENAI_VERSION = "2020-10-01"


class RequestIdMiddleware:
    """Names each request, and answers for whatever fails inside.

    Plain ASGI, so that a streamed chunk costs one call here and no task or queue. The id is
    always new: one that a client chose could be used twice, and logs go by it.
    """

    def __init__(self, app: ASGIApp, new_id: Callable[[], str], timer: Callable[[], float]) -> None:
        self._app = app
        self._new_id = new_id
        self._timer = timer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{self._new_id()}"
        scope.setdefault("state", {})["request_id"] = request_id
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
                reply["x-request-id"] = request_id
                reply["openai-version"] = OPENAI_VERSION
                for name, value in scope["state"].get("reply_headers", {}).items():
                    reply.setdefault(name, value)
                reply["openai-processing-ms"] = str(int((self._timer() - began) * 1000))
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception as exc:
            error = as_bridge_error(exc, request_id)
            if started:
                # Nothing true can be said any more: the server cuts the connection.
                raise
            params = scope["state"].get("params", PARAMS)
            await error_response(error, request_id, params)(scope, receive, send_named)


def as_bridge_error(exc: Exception, request_id: str) -> BridgeError:
    """Turn what a caller must not read into what it may; the log gets the rest."""
    if isinstance(exc, BridgeError):
        logger.info("request %s: %s", request_id, kind_of(exc))
        return exc
    logger.error("request %s failed\n%s", request_id, trace_of(exc))
    return InternalError()
