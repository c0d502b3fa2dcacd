"""Errors: the literal table, the envelope, and when a client may try again."""

from __future__ import annotations

import inspect

import pytest

from bridge.core.contract import errors
from bridge.http_server.errors import error_headers
from bridge.http_server.openai.shared.errors import (
    ERRORS,
    REASON_CODES,
    error_body,
    error_response,
    row_of,
)

ALL = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, errors.BridgeError)
]


@pytest.mark.parametrize("cls", ALL)
def test_every_class_has_a_row_of_its_own(cls: type[errors.BridgeError]) -> None:
    assert cls in ERRORS


def test_all_that_is_wrong_is_in_the_message() -> None:
    first = errors.InvalidRequestError("Invalid value for 'top_p'.", field="top_p")
    first.others = (
        errors.InvalidRequestError("Invalid value for 'stop'.", field="stop"),
        errors.InvalidRequestError("A text must not be empty.", field="user"),
    )
    assert error_body(first, "req_1")["error"] == {
        "message": "Invalid value for 'top_p'. Also: Invalid value for 'stop'. "
        "Also: 'user': A text must not be empty.",
        "type": "invalid_request_error",
        "param": "top_p",
        "code": "invalid_value",
    }


class Unheard(errors.ProcessFailedError):
    """A class that the table does not know."""


def error(cls: type[errors.BridgeError]) -> errors.BridgeError:
    return cls() if cls in (errors.InternalError, errors.StoreUnavailableError) else cls("why")


@pytest.mark.parametrize(
    ("cls", "status", "kind", "code"),
    [
        (errors.InvalidRequestError, 400, "invalid_request_error", "invalid_value"),
        (errors.UnsupportedError, 400, "invalid_request_error", "unsupported_value"),
        (errors.AuthenticationError, 401, "invalid_request_error", "invalid_api_key"),
        (errors.PermissionDeniedError, 403, "permission_error", "permission_denied"),
        (errors.ModelNotFoundError, 404, "invalid_request_error", "model_not_found"),
        (errors.NotFoundError, 404, "invalid_request_error", "not_found"),
        (errors.TooLargeError, 413, "invalid_request_error", "request_too_large"),
        (errors.PlanLimitError, 429, "usage_limit_reached", "rate_limit_exceeded"),
        (errors.QueueFullError, 429, "rate_limit_error", "queue_full"),
        (errors.ClientClosedError, 499, "invalid_request_error", "client_closed"),
        (errors.NotLoggedInError, 503, "server_error", "claude_not_logged_in"),
        (errors.UnavailableError, 503, "server_error", "upstream_error"),
        (errors.ProcessFailedError, 503, "server_error", "claude_process_error"),
        (errors.KeysUnavailableError, 503, "server_error", "keys_unavailable"),
        (errors.StoreUnavailableError, 503, "server_error", "store_unavailable"),
        (Unheard, 503, "server_error", "claude_process_error"),
        (errors.DrainingError, 503, "server_error", "draining"),
        (errors.DeadlineError, 504, "server_error", "timeout"),
        (errors.InternalError, 500, "server_error", "internal_error"),
        (errors.BridgeError, 500, "server_error", "internal_error"),
    ],
)
def test_the_table(cls: type[errors.BridgeError], status: int, kind: str, code: str) -> None:
    made = error(cls)

    body = error_body(made, "req_1")["error"]

    assert row_of(made).status == status
    assert (body["type"], body["code"]) == (kind, code)
    assert set(body) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (errors.InvalidRequestError("x", reason="MISSING_REQUIRED_PARAMETER"), None),
        (errors.InvalidRequestError("x", reason="CONTEXT_LENGTH_EXCEEDED"), None),
        (errors.UnsupportedError("x", reason="UNSUPPORTED_PARAMETER"), None),
        (errors.PlanLimitError("x", reason="INSUFFICIENT_QUOTA"), "insufficient_quota"),
        (errors.UnavailableError("x", reason="OVERLOADED"), "overloaded_error"),
        (errors.UnavailableError("x", reason="SOMETHING_ELSE"), "upstream_error"),
    ],
)
def test_some_reasons_have_a_code_of_their_own(made: errors.BridgeError, code: str | None) -> None:
    assert error_body(made, "req_1")["error"]["code"] == (code or made.reason.lower())


def test_a_usage_limit_says_when_it_resets() -> None:
    made = errors.PlanLimitError("The account's usage limit is reached.")
    made.tell_reset(4_102_444_800.0, 4_102_442_220.0)
    body = error_body(made, "req_1")["error"]
    assert body["type"] == "usage_limit_reached"
    assert (body["resets_at"], body["resets_in_seconds"]) == (4_102_444_800, 2_580)
    assert body["message"].endswith(", in 43 minutes.")


@pytest.mark.parametrize(
    "made",
    [
        errors.PlanLimitError("x", reason="INSUFFICIENT_QUOTA"),
        errors.PlanLimitError("x", reason="USAGE_CREDITS_REQUIRED"),
        errors.PlanLimitError("x", reason="OVERAGE_AHEAD", retryable=True),
    ],
)
def test_what_no_reset_helps_is_no_usage_limit(made: errors.PlanLimitError) -> None:
    assert error_body(made, "req_1")["error"]["type"] == "rate_limit_error"


def test_codes_by_reason_are_for_reasons_in_capitals() -> None:
    assert all(reason == reason.upper() for reason in REASON_CODES)


@pytest.mark.parametrize(
    ("field", "param"),
    [
        (None, None),
        ("messages[0].content", "messages[0].content"),
    ],
)
def test_the_field_is_named_as_it_was(field: str | None, param: str | None) -> None:
    made = errors.UnsupportedError("x", field=field)

    assert error_body(made, "req_1")["error"]["param"] == param


def test_a_piece_of_the_request_comes_back_cut_off() -> None:
    long = "metadata." + "x" * 1_000_000
    inner = error_body(errors.InvalidRequestError(f"{long} is wrong.", field=long), "req_1")[
        "error"
    ]
    assert inner["message"].startswith("metadata.xxx")
    assert inner["param"].startswith("metadata.xxx")
    assert len(inner["message"]) + len(inner["param"]) < 1_500


def test_only_an_internal_error_has_the_request_id() -> None:
    assert "req_1" in error_body(errors.InternalError(), "req_1")["error"]["message"]
    assert error_body(errors.DrainingError("why"), "req_1")["error"]["message"] == "why"


@pytest.mark.parametrize(
    ("made", "headers"),
    [
        (errors.InvalidRequestError("x"), {}),
        (errors.PermissionDeniedError("x"), {}),
        (errors.QueueFullError("x"), {"retry-after": "1", "retry-after-ms": "1000"}),
        (errors.UnavailableError("x"), {"retry-after": "10", "retry-after-ms": "10000"}),
        (errors.ProcessFailedError("x"), {"retry-after": "1", "retry-after-ms": "1000"}),
        (errors.QueueFullError("x", retry_after=2), {"retry-after": "2", "retry-after-ms": "2000"}),
        (
            errors.UnavailableError("x", retry_after=0.25),
            {"retry-after": "1", "retry-after-ms": "250"},
        ),
        (
            errors.PlanLimitError("x", retry_after=-5),
            {"retry-after": "0", "retry-after-ms": "0", "x-should-retry": "false"},
        ),
        (
            errors.DrainingError("x"),
            {"retry-after": "1", "retry-after-ms": "1000", "connection": "close"},
        ),
        (
            errors.RequestTimeoutError("x"),
            {"connection": "close", "x-should-retry": "false"},
        ),
        (errors.NotLoggedInError("x"), {"x-should-retry": "false"}),
        (errors.DeadlineError("x"), {"x-should-retry": "false"}),
        (errors.InternalError(), {"x-should-retry": "false"}),
        (errors.UnavailableError("x", retryable=False), {"x-should-retry": "false"}),
    ],
)
def test_retry_headers(made: errors.BridgeError, headers: dict[str, str]) -> None:
    named = {"x-bridge-error": made.reason, **headers}
    assert error_headers(made, row_of(made).status) == named


def test_a_response_carries_status_envelope_and_headers() -> None:
    response = error_response(errors.QueueFullError("full", retry_after=1), "req_1")

    assert response.status_code == 429
    assert response.headers["content-type"] == "application/json"
    assert response.headers["retry-after"] == "1"
