"""Errors over HTTP, as far as all dialects share them: classes, logging, retry hints."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from bridge.core.contract import (
    AnswerElsewhereError,
    BridgeError,
    DrainingError,
    InternalError,
    InvalidRequestError,
)
from bridge.core.telemetry import kind_of, trace_of

logger = logging.getLogger(__name__)

FOUND_ON_HEADER: Final = "x-bridge-found-on"
"""The server of the fleet that has an answer which this one has not."""

_RETRIED_STATUSES: Final = frozenset({408, 409, 429})
"""Statuses that the vendors' clients retry by default, besides every 5xx."""


ERROR_HEADER: Final = "x-bridge-error"
"""The header of every error reply, with the stable name of its reason: proxies decide by it whether
to retry."""

_MAX_MESSAGE: Final = 1_000
_MAX_FIELD: Final = 200


class HttpError(BridgeError):
    """A request refused for its use of HTTP, with its status."""

    reason = "HTTP_ERROR"

    def __init__(self, status: int, message: str, *, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.status = status


class UnknownUrlError(HttpError):
    """No route has this URL."""

    reason = "UNKNOWN_URL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(404, message, reason=reason)


class MethodNotSupportedError(HttpError):
    """The URL does not support this method."""

    reason = "METHOD_NOT_SUPPORTED"

    def __init__(self, message: str) -> None:
        super().__init__(405, message)


def as_bridge_error(exc: Exception, request_id: str) -> BridgeError:
    """Replace an error that a caller must not see by one that it may, and log the original."""
    if isinstance(exc, BridgeError):
        logger.info("request %s: %s", request_id, kind_of(exc))
        return exc
    logger.error("request %s failed\n%s", request_id, trace_of(exc))
    return InternalError()


def message_of(error: BridgeError, more: str = "") -> str:
    """Put all faults into the message, and `more` behind them: an envelope has room for the field
    of one."""
    text = error.message
    others = error.others if isinstance(error, InvalidRequestError) else ()
    for other in others:
        field = field_of(other) or ""
        named = "" if not field or field in other.message else f"'{field}': "
        text += f" Also: {named}{other.message}"
    return _cut(text + more, _MAX_MESSAGE)


def field_of(error: BridgeError) -> str | None:
    """Return the name of the field that an error is about, if it is about one."""
    field: str | None = getattr(error, "field", None)
    return None if field is None else _cut(field, _MAX_FIELD)


def _cut(text: str, length: int) -> str:
    """Truncate the name of a part of the request: it can be very long, and is logged."""
    return text if len(text) <= length else f"{text[:length]}…"


def error_headers(error: BridgeError, status: int) -> dict[str, str]:
    """Set the reason and the retry hints; clients must not retry where it cannot help.

    A retried POST is another turn that is paid for. Proxies and plain clients read `retry-after`,
    the vendors' clients the other two as well.
    """
    headers = {ERROR_HEADER: error.reason}
    seconds = error.retry_hint
    if seconds is not None:
        headers["retry-after"] = str(math.ceil(seconds))
        headers["retry-after-ms"] = str(math.ceil(seconds * 1000))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status == 408 or isinstance(error, DrainingError):
        # The rest of the request is not awaited; and while the server drains, the next request has
        # to reach another server.
        headers["connection"] = "close"
    if isinstance(error, AnswerElsewhereError):
        headers[FOUND_ON_HEADER] = error.replica
    if not error.retryable and (status >= 500 or status in _RETRIED_STATUSES):
        headers["x-should-retry"] = "false"
    return headers


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    body = json.dumps(content, separators=(",", ":")).encode()
    return Response(body, status, headers, media_type="application/json")
