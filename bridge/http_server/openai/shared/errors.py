"""Errors in OpenAI's format: one literal table, and the reply built from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

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
from bridge.http_server.openai.shared.replies import error_object


@dataclass(frozen=True, slots=True)
class Row:
    """The format of a class of errors; `code` None means the error's own reason."""

    status: int
    type: str
    code: str | None


ERRORS: Mapping[type[contract.BridgeError], Row] = {
    contract.InvalidRequestError: Row(400, "invalid_request_error", None),
    contract.UnsupportedError: Row(400, "invalid_request_error", None),
    contract.AuthenticationError: Row(401, "invalid_request_error", "invalid_api_key"),
    contract.PermissionDeniedError: Row(403, "permission_error", "permission_denied"),
    contract.ModelNotFoundError: Row(404, "invalid_request_error", "model_not_found"),
    contract.NotFoundError: Row(404, "invalid_request_error", None),
    contract.TooLargeError: Row(413, "invalid_request_error", "request_too_large"),
    contract.AnswerTooLargeError: Row(413, "server_error", "answer_too_large"),
    contract.RequestIdInUseError: Row(409, "invalid_request_error", None),
    contract.AnswerElsewhereError: Row(409, "invalid_request_error", None),
    contract.RequestCancelledError: Row(499, "invalid_request_error", "request_cancelled"),
    contract.PlanLimitError: Row(429, "rate_limit_error", "rate_limit_exceeded"),
    contract.RateLimitedError: Row(429, "rate_limit_error", "rate_limit_exceeded"),
    contract.QueueFullError: Row(429, "rate_limit_error", "queue_full"),
    contract.ClientClosedError: Row(499, "invalid_request_error", "client_closed"),
    contract.NotLoggedInError: Row(503, "server_error", "claude_not_logged_in"),
    contract.AccountRefusedError: Row(503, "server_error", "claude_account_refused"),
    contract.UnavailableError: Row(503, "server_error", "upstream_error"),
    contract.ProcessFailedError: Row(503, "server_error", "claude_process_error"),
    contract.KeysUnavailableError: Row(503, "server_error", "keys_unavailable"),
    contract.StoreUnavailableError: Row(503, "server_error", "store_unavailable"),
    contract.DrainingError: Row(503, "server_error", "draining"),
    contract.RequestTimeoutError: Row(408, "invalid_request_error", "request_timeout"),
    contract.DeadlineError: Row(504, "server_error", "timeout"),
    contract.InternalError: Row(500, "server_error", "internal_error"),
    contract.BridgeError: Row(500, "server_error", "internal_error"),
}

REASON_CODES: Mapping[str, str] = {
    "INSUFFICIENT_QUOTA": "insufficient_quota",
    "OVERLOADED": "overloaded_error",
    "USAGE_CREDITS_REQUIRED": "usage_credits_required",
    "CLAUDE_MISCONFIGURED": "claude_misconfigured",
    "QUEUE_TIMEOUT": "queue_timeout",
    "FIRST_TOKEN_TIMEOUT": "first_token_timeout",
    "IDLE_TIMEOUT": "idle_timeout",
}
"""Reasons with a code of their own, whatever the class: OpenAI's clients know the first two."""

USAGE_LIMIT = "usage_limit_reached"
"""The type by which Codex recognises that the account's limit is reached: it ends at once and shows
when the limit resets. OpenAI's and Vercel's clients decide by the status alone."""

_USAGE_LIMITS = frozenset({contract.PlanLimitError.reason, "OVERAGE_AHEAD"})


def row_of(error: contract.BridgeError) -> Row:
    """Return the row of the nearest class of an error."""
    if isinstance(error, HttpError):
        return Row(error.status, "invalid_request_error", None)
    return next(ERRORS[cls] for cls in type(error).__mro__ if cls in ERRORS)


def error_body(error: contract.BridgeError, request_id: str) -> JsonDict:
    """Build the envelope of an error."""
    row = row_of(error)
    message = message_of(error, f" (request {request_id})" if row.status == 500 else "")
    code: str | None = REASON_CODES.get(error.reason) or row.code or error.reason.lower()
    if error.reason == HttpError.reason:
        # An error of the framework for which OpenAI has no type.
        code = None
    kind = row.type
    more: JsonDict = {}
    if isinstance(error, contract.PlanLimitError):
        if error.reason in _USAGE_LIMITS and not error.retryable:
            kind = USAGE_LIMIT
        if error.resets_at is not None:
            more["resets_at"] = round(error.resets_at)
            more["resets_in_seconds"] = math.ceil(error.retry_hint or 0)
    return error_object(message, kind, field_of(error), code, more)


def error_response(error: contract.BridgeError, request_id: str) -> Response:
    """Build the reply to an error."""
    status = row_of(error).status
    return json_response(error_body(error, request_id), status, error_headers(error, status))
