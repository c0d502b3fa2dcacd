"""Every kind of failure that the CLI reports: its error, and the caller's remedy."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest

from bridge.core.claude.failures.kinds import API_ERRORS, ERRORS
from bridge.core.claude.failures.results import failure_of
from bridge.core.contract.errors import (
    AccountRefusedError,
    BridgeError,
    InvalidRequestError,
    NotLoggedInError,
    PermissionDeniedError,
    PlanLimitError,
    ProcessFailedError,
    UnavailableError,
)

BINARY = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
SECRET = "Please run /doctor at 10.1.2.3 (sk-ant-secret)"


def result(status: int | None = None, text: str = SECRET, **more: Any) -> dict[str, Any]:
    return {
        "type": "result",
        "subtype": "success",
        "is_error": True,
        "api_error_status": status,
        "result": text,
        **more,
    }


API_ROWS: dict[str, tuple[type[BridgeError], str, bool]] = {
    "max_output_tokens": (UnavailableError, "UPSTREAM_ERROR", True),
    "dlp_request_denied": (PermissionDeniedError, "PERMISSION_DENIED", False),
    "claude_code_version_too_old": (UnavailableError, "CLAUDE_MISCONFIGURED", False),
    "safety_monitor_blocked": (PermissionDeniedError, "PERMISSION_DENIED", False),
    "hook_denied": (PermissionDeniedError, "PERMISSION_DENIED", False),
    "effort_requires_thinking": (InvalidRequestError, "UPSTREAM_REFUSED", False),
    "advisor_incompatible": (UnavailableError, "CLAUDE_MISCONFIGURED", False),
    "tool_history_mismatch": (InvalidRequestError, "UPSTREAM_REFUSED", False),
    "autocompact_thrashing": (InvalidRequestError, "CONTEXT_LENGTH_EXCEEDED", False),
    "pdf_too_large": (InvalidRequestError, "UPSTREAM_REFUSED", False),
    "pdf_password_protected": (InvalidRequestError, "UPSTREAM_REFUSED", False),
    "stored_login_refused": (NotLoggedInError, "CLAUDE_NOT_LOGGED_IN", False),
    "oauth_refresh_store_refused": (NotLoggedInError, "CLAUDE_NOT_LOGGED_IN", False),
    "media_removed": (InvalidRequestError, "UPSTREAM_REFUSED", False),
    "no_response": (UnavailableError, "UPSTREAM_ERROR", True),
    "tls_untrusted_ca": (UnavailableError, "CLAUDE_MISCONFIGURED", False),
    "tls_cert_signature_failure": (UnavailableError, "CLAUDE_MISCONFIGURED", False),
    "gateway_content_type": (UnavailableError, "CLAUDE_MISCONFIGURED", False),
    "connection_failed": (UnavailableError, "UPSTREAM_ERROR", True),
    "stream_idle_timeout": (UnavailableError, "UPSTREAM_ERROR", True),
    "computer_slept": (UnavailableError, "UPSTREAM_ERROR", True),
    "provider_credentials": (NotLoggedInError, "CLAUDE_NOT_LOGGED_IN", False),
    "gateway_signin_required": (NotLoggedInError, "CLAUDE_NOT_LOGGED_IN", False),
    "gateway_session_expired": (NotLoggedInError, "CLAUDE_NOT_LOGGED_IN", False),
    "api_key_auth_disabled": (AccountRefusedError, "CLAUDE_ACCOUNT_REFUSED", False),
    "org_disabled_credential": (AccountRefusedError, "CLAUDE_ACCOUNT_REFUSED", False),
    "invalid_credential_header": (NotLoggedInError, "CLAUDE_NOT_LOGGED_IN", False),
    "model_requires_usage_credits": (PlanLimitError, "USAGE_CREDITS_REQUIRED", False),
    "long_context_credits_required": (PlanLimitError, "USAGE_CREDITS_REQUIRED", False),
    "consent_unanswered": (PlanLimitError, "USAGE_CREDITS_REQUIRED", False),
    "no_allowed_fallback": (PermissionDeniedError, "PERMISSION_DENIED", False),
    "model_substitution_disabled": (PermissionDeniedError, "PERMISSION_DENIED", False),
    "field_not_granted": (PermissionDeniedError, "PERMISSION_DENIED", False),
    "usage_limit_reached": (PlanLimitError, "PLAN_LIMIT", False),
    "empty_completion": (UnavailableError, "UNFIT_ANSWER", True),
    "malformed_tool_use_exhausted": (UnavailableError, "UNFIT_ANSWER", True),
    "unattended_start_limit": (ProcessFailedError, "CLAUDE_PROCESS_ERROR", True),
    "unattended_start_unconfirmed": (ProcessFailedError, "CLAUDE_PROCESS_ERROR", True),
    "message_over_context_limit": (InvalidRequestError, "CONTEXT_LENGTH_EXCEEDED", False),
    "network_edge_blocked": (UnavailableError, "CLAUDE_MISCONFIGURED", False),
    "named_profile_unusable": (NotLoggedInError, "CLAUDE_NOT_LOGGED_IN", False),
}

ERROR_ROWS: dict[str, tuple[int | None, type[BridgeError], str]] = {
    "authentication_failed": (401, NotLoggedInError, "CLAUDE_NOT_LOGGED_IN"),
    "oauth_org_not_allowed": (401, AccountRefusedError, "CLAUDE_ACCOUNT_REFUSED"),
    "account_on_hold": (403, AccountRefusedError, "CLAUDE_ACCOUNT_REFUSED"),
    "verification_required": (403, AccountRefusedError, "CLAUDE_ACCOUNT_REFUSED"),
    "billing_error": (400, PlanLimitError, "INSUFFICIENT_QUOTA"),
    "cloud_credential_error": (None, NotLoggedInError, "CLAUDE_NOT_LOGGED_IN"),
    # Kinds that are less specific than the status.
    "overloaded": (529, UnavailableError, "OVERLOADED"),
    "server_error": (500, UnavailableError, "UPSTREAM_ERROR"),
    "max_output_tokens": (None, ProcessFailedError, "CLAUDE_PROCESS_ERROR"),
    "rate_limit": (429, PlanLimitError, "PLAN_LIMIT"),
    "unknown": (402, PlanLimitError, "INSUFFICIENT_QUOTA"),
    "invalid_request": (400, InvalidRequestError, "UPSTREAM_REFUSED"),
    "model_not_found": (404, BridgeError, "MODEL_NOT_FOUND"),
}


@pytest.mark.parametrize("kind", API_ROWS)
@pytest.mark.parametrize("status", [None, 400, 403, 429])
def test_each_api_error_is_its_own_error_whatever_its_status(kind: str, status: int | None) -> None:
    error = failure_of(result(status, api_error=kind))
    assert (type(error), error.reason, error.retryable) == API_ROWS[kind]
    _says_nothing_of_the_clis(error)


@pytest.mark.parametrize("kind", ERROR_ROWS)
def test_each_error_of_the_synthetic_answer_is_an_error(kind: str) -> None:
    status, wanted, reason = ERROR_ROWS[kind]
    error = failure_of(result(status), error=kind)
    assert isinstance(error, wanted)
    assert error.reason == reason
    if wanted is not InvalidRequestError:
        _says_nothing_of_the_clis(error)


def _says_nothing_of_the_clis(error: BridgeError) -> None:
    for word in ("doctor", "10.1.2.3", "sk-ant"):
        assert word not in error.message
    if isinstance(error, NotLoggedInError) or error.reason == "CLAUDE_MISCONFIGURED":
        # Only the operator can fix these, and the message has the remedy.
        assert re.search(r"operator", error.message), error.message
        assert not error.retryable


@pytest.mark.parametrize(
    ("status", "text", "error", "wanted", "reason"),
    [
        (400, "API Error: 400 This organization has been disabled.", "unknown",
         AccountRefusedError, "CLAUDE_ACCOUNT_REFUSED"),
        (400, "API Error: 400 You're out of extra usage. Add more at claude.ai.", "unknown",
         PlanLimitError, "USAGE_CREDITS_REQUIRED"),
        (400, "API Error: 400 This credential is only authorized for use with Claude Code.",
         "unknown", AccountRefusedError, "CLAUDE_ACCOUNT_REFUSED"),
        (400, "API Error: 400 messages.0: This organization has been disabled.", "unknown",
         InvalidRequestError, "UPSTREAM_REFUSED"),
        (403, "Failed to authenticate: OAuth token revoked. Please log in again.",
         "authentication_failed", NotLoggedInError, "CLAUDE_NOT_LOGGED_IN"),
        (403, "Failed to authenticate. API Error: 403 not for you", "authentication_failed",
         PermissionDeniedError, "PERMISSION_DENIED"),
        (None, "Failed to authenticate: OAuth session expired and could not be refreshed",
         "authentication_failed", NotLoggedInError, "CLAUDE_NOT_LOGGED_IN"),
        (429, "API Error: Request rejected (429) · Extra usage is required for long context "
         "requests.", "rate_limit", PlanLimitError, "USAGE_CREDITS_REQUIRED"),
    ],
)  # fmt: skip
def test_a_failure_without_a_kind_is_recognised_by_the_apis_own_sentence(
    status: int | None, text: str, error: str, wanted: type[BridgeError], reason: str
) -> None:
    failure = failure_of(result(status, text), error=error)
    assert (type(failure), failure.reason) == (wanted, reason)
    assert not failure.retryable


def test_a_kind_yet_unknown_leaves_it_to_the_status() -> None:
    assert failure_of(result(529, api_error="of_tomorrow"), error="of_tomorrow").retryable


def test_the_tables_have_every_row() -> None:
    assert API_ROWS.keys() == API_ERRORS.keys()
    assert ERROR_ROWS.keys() == ERRORS.keys()


@pytest.mark.skipif(not BINARY.exists(), reason="the SDK came without its binary")
def test_the_tables_are_those_of_the_pinned_cli() -> None:
    with BINARY.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary:
        lists = set(re.findall(rb'\["max_output_tokens","dlp_request_denied"(?:,"\w+")+\]', binary))
        remedies = set(re.findall(rb'\{overloaded:"try_again"(?:,\w+:"\w+")+\}', binary))
    assert lists
    assert remedies
    for found in lists:
        assert set(re.findall(r'"(\w+)"', found.decode())) == API_ERRORS.keys()
    for found in remedies:
        assert set(re.findall(r"(\w+):", found.decode())) == ERRORS.keys()
