"""Errors as the API sends them: status, type, message and headers, well-known ones by name.

https://platform.claude.com/docs/en/api/errors has the types. The messages and the headers are from
public recordings of the Messages API, and from users' reports with request ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

# https://platform.claude.com/docs/en/api/errors
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error response; with `times`, only the first `times` requests fail."""

    status: int
    type: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None


# https://platform.claude.com/docs/en/api/rate-limits has `retry-after`; the `unified` headers are
# those of a subscription's answers. The reset is a time long after any test.
_FAR = "4102444800"
_WINDOW_USED_UP = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": _FAR,
    "anthropic-ratelimit-unified-representative-claim": "five_hour",
    "anthropic-ratelimit-unified-5h-status": "rejected",
    "anthropic-ratelimit-unified-5h-reset": _FAR,
    "anthropic-ratelimit-unified-5h-utilization": "1.0",
    "anthropic-ratelimit-unified-overage-status": "rejected",
    "anthropic-ratelimit-unified-overage-disabled-reason": "org_level_disabled",
    "retry-after": "13262",
}


def _failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Failure:
    return Failure(status, ERROR_TYPES[status], message, headers or {})


FAILURES: Mapping[str, Failure] = {
    "invalid_key": _failure(401, "invalid x-api-key"),
    "invalid_credentials": _failure(401, "Invalid authentication credentials"),
    "expired": _failure(
        401,
        "OAuth token has expired. Please obtain a new token or refresh your existing token.",
    ),
    "oauth_not_allowed": _failure(
        401, "OAuth authentication is currently not allowed for this organization."
    ),
    "billing": _failure(402, "There is an issue with your billing or payment information."),
    "credit": _failure(
        400,
        "Your credit balance is too low to access the Anthropic API. "
        "Please go to Plans & Billing to upgrade or purchase credits.",
    ),
    "extra_usage": _failure(
        400, "You're out of extra usage. Add more at claude.ai/settings/usage and keep going."
    ),
    "revoked": _failure(403, "OAuth token has been revoked. Please obtain a new token."),
    "organization_disabled": _failure(400, "This organization has been disabled."),
    "long_context": _failure(429, "Extra usage is required for long context requests."),
    "burst": _failure(
        429, "This request would exceed your account's rate limit. Please try again later."
    ),
    "usage_limit": _failure(
        429,
        "This request would exceed your account's rate limit. Please try again later.",
        _WINDOW_USED_UP,
    ),
    "overloaded": _failure(529, "Overloaded"),
    "internal": _failure(500, "Internal server error"),
    "claude_code_only": _failure(
        400,
        "This credential is only authorized for use with Claude Code and cannot be used for "
        "other API requests.",
    ),
}


def should_retry(status: int) -> str:
    """Return the `x-should-retry` header that the API sends with an error."""
    return "true" if status in (408, 409, 429) or status >= 500 else "false"
