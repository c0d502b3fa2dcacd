"""Errors, as Anthropic's clients read them."""

from __future__ import annotations

import inspect
import json

import pytest
from anthropic.types.shared import ErrorResponse

from bridge.core import contract
from bridge.core.contract import BridgeError, errors
from bridge.http_server.anthropic.errors import error_body, error_response, row_of
from bridge.http_server.errors import HttpError, UnknownUrlError

TYPES = {"request_too_large"}
"""Documented, and yet not among the client's types."""


def every_error() -> list[BridgeError]:
    classes = [
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, BridgeError)
    ]
    arguments = {
        contract.InternalError: (),
        contract.StoreUnavailableError: (),
        contract.AnswerElsewhereError: ("resp_1", "replica-2"),
    }
    return [cls(*arguments.get(cls, ("said",))) for cls in classes]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_every_error_has_a_type_that_the_client_knows(error: BridgeError) -> None:
    body = error_body(error, "req_1")

    assert body["request_id"] == "req_1"
    if body["error"]["type"] not in TYPES:
        ErrorResponse.model_validate_json(json.dumps(body), strict=True)
    assert 400 <= row_of(error).status < 600


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (contract.InvalidRequestError("a"), 400, "invalid_request_error"),
        (contract.UnsupportedError("a"), 400, "invalid_request_error"),
        (contract.AuthenticationError("a"), 401, "authentication_error"),
        (contract.PermissionDeniedError("a"), 403, "permission_error"),
        (contract.ModelNotFoundError("a"), 404, "not_found_error"),
        (UnknownUrlError("a"), 404, "not_found_error"),
        (HttpError(415, "a"), 415, "invalid_request_error"),
        (contract.RequestTimeoutError("a"), 408, "timeout_error"),
        (contract.TooLargeError("a"), 413, "request_too_large"),
        (contract.PlanLimitError("a"), 429, "rate_limit_error"),
        (contract.RateLimitedError("a"), 429, "rate_limit_error"),
        (contract.QueueFullError("a"), 429, "rate_limit_error"),
        (contract.InternalError(), 500, "api_error"),
        (contract.NotLoggedInError("a"), 503, "api_error"),
        (contract.UnavailableError("a"), 503, "api_error"),
        (contract.DeadlineError("a"), 504, "timeout_error"),
        (contract.UnavailableError("a", reason="OVERLOADED"), 529, "overloaded_error"),
    ],
)
def test_statuses_and_types(error: BridgeError, status: int, kind: str) -> None:
    response = error_response(error, "req_1")

    assert response.status_code == status
    assert json.loads(bytes(response.body))["error"]["type"] == kind


def test_what_to_do_next_is_in_the_headers() -> None:
    limited = error_response(contract.PlanLimitError("a", retry_after=90), "r").headers
    wrong = error_response(contract.AuthenticationError("a"), "r").headers

    assert (limited["retry-after"], limited["x-should-retry"]) == ("90", "false")
    assert wrong["www-authenticate"] == "Bearer"


def test_a_limit_of_the_plan_says_when_it_resets() -> None:
    error = contract.PlanLimitError("a")
    assert error_response(error, "r").headers["anthropic-ratelimit-unified-status"] == "rejected"
    error.tell_reset(1_700_000_000.5, 1_700_000_000)
    headers = error_response(error, "r").headers

    assert headers["anthropic-ratelimit-unified-reset"] == "1700000001"
    assert (
        "anthropic-ratelimit-unified-status"
        not in error_response(contract.RateLimitedError("a"), "r").headers
    )


def test_all_faults_are_said_and_the_first_is_in_the_details() -> None:
    error = contract.InvalidRequestError("Wrong.", field="max_tokens")
    error.others = (contract.InvalidRequestError("Bad.", field="system"),)
    body = error_body(error, "r")["error"]

    assert body["message"] == "Wrong. Also: 'system': Bad."
    assert body["details"] == {"error_code": "invalid_value", "field": "max_tokens"}


def test_what_a_caller_wrote_is_cut() -> None:
    body = error_body(contract.InvalidRequestError("m" * 2000, field="f" * 900), "r")["error"]

    assert len(body["message"]) == 1001
    assert len(body["details"]["field"]) == 201
