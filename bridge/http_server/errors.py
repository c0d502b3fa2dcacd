"""Errors over HTTP, as far as all dialects have them alike: classes, logging, retry hints."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from bridge.core.contract import BridgeError, DrainingError, InternalError
from bridge.core.telemetry import kind_of, trace_of

logger = logging.getLogger(__name__)

_RETRIED_STATUSES: Final = frozenset({408, 409, 429})
"""What the vendors' clients retry unasked, besides every 5xx."""


class HttpError(BridgeError):
    """A request that HTTP itself refuses, with the status that it is refused by."""

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
    """The URL does not take this method."""

    reason = "METHOD_NOT_SUPPORTED"

    def __init__(self, message: str) -> None:
        super().__init__(405, message)


def as_bridge_error(exc: Exception, request_id: str) -> BridgeError:
    """Turn what a caller must not read into what it may; the log gets the rest."""
    if isinstance(exc, BridgeError):
        logger.info("request %s: %s", request_id, kind_of(exc))
        return exc
    logger.error("request %s failed\n%s", request_id, trace_of(exc))
    return InternalError()


def error_headers(error: BridgeError, status: int) -> dict[str, str]:
    """Say when to try again, and keep clients from retrying what cannot help.

    Their retry of a POST is another turn that is paid for. Proxies and plain clients read
    `retry-after`, the vendors' clients the other two as well.
    """
    headers = {}
    seconds = error.retry_hint
    if seconds is not None:
        headers["retry-after"] = str(math.ceil(seconds))
        headers["retry-after-ms"] = str(math.ceil(seconds * 1000))
    if status == 408 or isinstance(error, DrainingError):
        # What still comes of the request is not waited for; and while the server drains, the next
        # request has to find another one.
        headers["connection"] = "close"
    if not error.retryable and (status >= 500 or status in _RETRIED_STATUSES):
        headers["x-should-retry"] = "false"
    return headers


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Make a reply of a JSON value."""
    body = json.dumps(content, separators=(",", ":")).encode()
    return Response(body, status, headers, media_type="application/json")
