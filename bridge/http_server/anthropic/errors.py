"""Errors as Anthropic's clients read them: one literal table, and the reply made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from bridge.core import contract
from bridge.http_server.dialect import JsonDict
from bridge.http_server.errors import (
    HttpError,
    error_headers,
    field_of,
    json_response,
    message_of,
)


@dataclass(frozen=True, slots=True)
class Row:
    """How one class of error looks."""

    status: int
    type: str


ERRORS: Final[Mapping[type[contract.BridgeError], Row]] = {
    contract.InvalidRequestError: Row(400, "invalid_request_error"),
    contract.AuthenticationError: Row(401, "authentication_error"),
    contract.PermissionDeniedError: Row(403, "permission_error"),
    contract.ModelNotFoundError: Row(404, "not_found_error"),
    contract.NotFoundError: Row(404, "not_found_error"),
    contract.TooLargeError: Row(413, "request_too_large"),
    contract.RequestIdInUseError: Row(409, "invalid_request_error"),
    contract.AnswerElsewhereError: Row(409, "invalid_request_error"),
    contract.RequestCancelledError: Row(499, "invalid_request_error"),
    contract.PlanLimitError: Row(429, "rate_limit_error"),
    contract.RateLimitedError: Row(429, "rate_limit_error"),
    contract.QueueFullError: Row(429, "rate_limit_error"),
    contract.ClientClosedError: Row(499, "invalid_request_error"),
    contract.NotLoggedInError: Row(503, "api_error"),
    contract.UnavailableError: Row(503, "api_error"),
    contract.RequestTimeoutError: Row(408, "timeout_error"),
    contract.DeadlineError: Row(504, "timeout_error"),
    contract.BridgeError: Row(500, "api_error"),
}

REASONS: Final[Mapping[str, Row]] = {"OVERLOADED": Row(529, "overloaded_error")}
"""Reasons with a status of their own, whatever the class."""

_HTTP: Final[Mapping[int, str]] = {404: "not_found_error", 413: "request_too_large"}


def row_of(error: contract.BridgeError) -> Row:
    """Find the row of an error: of its reason, or of its nearest class."""
    if isinstance(error, HttpError):
        return Row(error.status, _HTTP.get(error.status, "invalid_request_error"))
    nearest = next(ERRORS[cls] for cls in type(error).__mro__ if cls in ERRORS)
    return REASONS.get(error.reason, nearest)


def error_body(error: contract.BridgeError, request_id: str) -> JsonDict:
    """Build the envelope of an error; its details are for programs."""
    details: JsonDict = {"error_code": error.reason.lower()}
    field = field_of(error)
    if field is not None:
        details["field"] = field
    return {
        "type": "error",
        "error": {"type": row_of(error).type, "message": message_of(error), "details": details},
        "request_id": request_id,
    }


def _limit_headers(error: contract.PlanLimitError) -> dict[str, str]:
    """What the API says of a subscription's limits, as far as it concerns a caller."""
    headers = {"anthropic-ratelimit-unified-status": "rejected"}
    if error.resets_at is not None:
        headers["anthropic-ratelimit-unified-reset"] = str(math.ceil(error.resets_at))
    return headers


def error_response(error: contract.BridgeError, request_id: str) -> Response:
    """Make the reply to an error."""
    status = row_of(error).status
    headers = error_headers(error, status)
    if isinstance(error, contract.PlanLimitError):
        headers |= _limit_headers(error)
    return json_response(error_body(error, request_id), status, headers)
