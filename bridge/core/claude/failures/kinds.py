"""The kinds of failure that the CLI reports, each with its error for callers. Pure.

`error` is on the CLI's synthetic answer; `api_error` is there and on its `result`. The second is
narrower, and most failures have only the first. Both lists are those of the pinned CLI; a test
compares them with the binary. The messages are the bridge's own, because the CLI's text is not
meant for callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from bridge.core.contract import (
    AccountRefusedError,
    BridgeError,
    InvalidRequestError,
    NotLoggedInError,
    PermissionDeniedError,
    PlanLimitError,
    ProcessFailedError,
    UnavailableError,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of failure: its error and the remedy."""

    error: type[BridgeError]
    message: str
    reason: str | None = None
    retryable: bool | None = None
    field: str | None = None

    def as_error(self) -> BridgeError:
        """Return the error of this kind."""
        if issubclass(self.error, InvalidRequestError):
            return self.error(self.message, field=self.field, reason=self.reason)
        if issubclass(self.error, PermissionDeniedError):
            return self.error(self.message, field=self.field)
        return self.error(self.message, reason=self.reason, retryable=self.retryable)


CONTEXT_TOO_LONG: Final = Kind(
    InvalidRequestError,
    "The conversation is longer than the model's context window. Send fewer or shorter messages.",
    "CONTEXT_LENGTH_EXCEEDED",
    field="messages",
)

NOT_LOGGED_IN: Final = Kind(
    NotLoggedInError,
    "Claude Code is not logged in. The operator of this server must run `bridge login`, or start "
    "the server with --demo.",
)

LOGIN_REFUSED: Final = Kind(
    NotLoggedInError,
    "The Anthropic API no longer accepts Claude Code's login. The operator of this server must log "
    "in again: bridge login.",
)

NO_CREDIT: Final = Kind(
    PlanLimitError,
    "The account has no credit left, or its payment failed. The operator of this server must check "
    "its billing.",
    "INSUFFICIENT_QUOTA",
)

USAGE_LIMIT: Final = Kind(PlanLimitError, "The account's usage limit is reached.")

LONG_CONTEXT: Final = Kind(
    PlanLimitError,
    "A request of this length needs paid usage credits, which are off for this account. Send fewer "
    "or shorter messages, or another model; the operator of this server can turn usage credits on "
    "at claude.ai/settings/usage.",
    "USAGE_CREDITS_REQUIRED",
)

OUT_OF_CREDITS: Final = Kind(
    PlanLimitError,
    "This model or request needs paid usage credits, and the account has none left or has them "
    "off. Use another model; the operator of this server can add credits at "
    "claude.ai/settings/usage.",
    "USAGE_CREDITS_REQUIRED",
)

ORGANIZATION_DISABLED: Final = Kind(
    AccountRefusedError,
    "The organization of this server's account has been disabled. The operator of this server must "
    "use another account or API key, or contact Anthropic's support.",
)

CLAUDE_CODE_ONLY: Final = Kind(
    AccountRefusedError,
    "The Anthropic API accepts this server's login for requests with Claude Code's own system "
    "prompt only. The operator of this server must use another account or an API key.",
)

_MODEL_CREDITS = OUT_OF_CREDITS


def _setup(message: str) -> Kind:
    """A failure that the operator must fix on the server's machine or in its network."""
    return Kind(UnavailableError, message, "CLAUDE_MISCONFIGURED", retryable=False)


def _provider(message: str) -> Kind:
    return Kind(NotLoggedInError, message)


def _refused(message: str) -> Kind:
    return Kind(InvalidRequestError, message, "UPSTREAM_REFUSED", field="messages")


UNTRUSTED_CA: Final = _setup(
    "The certificate of the Anthropic API, or of a proxy before it, comes from an authority that "
    "is not trusted here. The operator of this server must set NODE_EXTRA_CA_CERTS to that "
    "authority's certificate."
)

WRONG_HOST: Final = _setup(
    "The certificate of the Anthropic API, or of a proxy before it, is for another host. The "
    "operator of this server must check ANTHROPIC_BASE_URL and the proxy."
)
EXPIRED_CERTIFICATE: Final = _setup(
    "The certificate of the Anthropic API, or of a proxy before it, has expired. The operator of "
    "this server must check the proxy and this machine's clock."
)
BAD_CERTIFICATE: Final = _setup(
    "No trusted connection to the Anthropic API can be made. The operator of this server must "
    "check the certificates of its proxy or gateway."
)
BAD_URL: Final = _setup(
    "ANTHROPIC_BASE_URL is not a valid address. The operator of this server must correct it."
)

_NOT_REACHED = Kind(
    UnavailableError,
    "The Anthropic API cannot be reached, or the connection to it was lost. Try again later.",
)
_SILENT = Kind(UnavailableError, "The Anthropic API did not answer in time. Try again later.")
_NO_ANSWER = Kind(UnavailableError, "The model gave no usable answer. Try again.", "UNFIT_ANSWER")
_NOT_STARTED = Kind(
    ProcessFailedError, "Claude Code did not begin to handle the request. Try again later."
)

API_ERRORS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "max_output_tokens": Kind(
            UnavailableError,
            "The answer reached its output limit in the middle of a tool call. Increase the token "
            "limit, or try again.",
        ),
        "dlp_request_denied": Kind(
            PermissionDeniedError,
            "The data-loss-prevention policy of the account's organization refuses this request.",
        ),
        "claude_code_version_too_old": _setup(
            "The Anthropic API needs a newer version of Claude Code for this. The operator of this "
            "server must update claude-agent-sdk."
        ),
        "safety_monitor_blocked": Kind(
            PermissionDeniedError, "The Anthropic API's safety monitor blocked this answer."
        ),
        "hook_denied": Kind(
            PermissionDeniedError,
            "A hook of this server's Claude Code refused the request.",
        ),
        "effort_requires_thinking": Kind(
            InvalidRequestError,
            "The model does not accept this effort while thinking is off. Use at most `high`.",
            "UPSTREAM_REFUSED",
            field="effort",
        ),
        "advisor_incompatible": _setup(
            "Claude Code's advisor model does not work with the requested model. The "
            "operator of this server must unset `advisorModel` in Claude Code's settings."
        ),
        "tool_history_mismatch": _refused(
            "The Anthropic API refuses the conversation: its tool calls and tool results do not "
            "match.",
        ),
        "autocompact_thrashing": CONTEXT_TOO_LONG,
        "pdf_too_large": _refused("A PDF has more pages or bytes than the Anthropic API accepts."),
        "pdf_password_protected": _refused(
            "A PDF is protected by a password. Send it without one."
        ),
        "stored_login_refused": _provider(
            "Claude Code may not use its stored login: an administrator's settings require another "
            "one. The operator of this server must run `bridge login` to see what they require."
        ),
        "oauth_refresh_store_refused": _provider(
            "Claude Code cannot store its refreshed login. The operator of this server must unlock "
            "the system's keychain, or run `bridge login --token`."
        ),
        "media_removed": _refused(
            "The Anthropic API refuses an image or a document of the request."
        ),
        "no_response": _SILENT,
        "tls_untrusted_ca": UNTRUSTED_CA,
        "tls_cert_signature_failure": _setup(
            "The signature of a certificate of the Anthropic API, or of a proxy before it, is not "
            "valid. The operator of this server must check the network and NODE_EXTRA_CA_CERTS."
        ),
        "gateway_content_type": _setup(
            "A proxy changes the answers of the cloud provider. The operator of this server must "
            "make it pass them on unchanged."
        ),
        "connection_failed": _NOT_REACHED,
        "stream_idle_timeout": _SILENT,
        "computer_slept": Kind(
            UnavailableError, "The server's machine slept during the request. Try again."
        ),
        "provider_credentials": _provider(
            "The cloud provider refuses this server's credentials, or its access to the model. The "
            "operator of this server must renew them."
        ),
        "gateway_signin_required": _provider(
            "Claude Code is not signed in to its cloud gateway. The operator of this server must "
            "run `bridge login`."
        ),
        "gateway_session_expired": _provider(
            "Claude Code's session with its cloud gateway has expired. The operator of this server "
            "must run `bridge login`, or replace the gateway's token."
        ),
        "api_key_auth_disabled": Kind(
            AccountRefusedError,
            "The organization has turned off API keys. The operator of this server must log in "
            "with an account: bridge login.",
        ),
        "org_disabled_credential": Kind(
            AccountRefusedError,
            "ANTHROPIC_API_KEY belongs to an organization that has been disabled. The operator of "
            "this server must replace or unset it.",
        ),
        "invalid_credential_header": _provider(
            "Claude Code's credential cannot be sent as an HTTP header. The operator of this "
            "server must check the API key or token for stray characters, or log in again."
        ),
        "model_requires_usage_credits": _MODEL_CREDITS,
        "long_context_credits_required": LONG_CONTEXT,
        "consent_unanswered": _MODEL_CREDITS,
        "no_allowed_fallback": Kind(
            PermissionDeniedError,
            "The account may use neither this model nor a fallback.",
            field="model",
        ),
        "model_substitution_disabled": Kind(
            PermissionDeniedError,
            "The account may not use this model.",
            field="model",
        ),
        "field_not_granted": Kind(
            PermissionDeniedError, "The account's organization may not use a field of this request."
        ),
        "usage_limit_reached": USAGE_LIMIT,
        "empty_completion": _NO_ANSWER,
        "malformed_tool_use_exhausted": _NO_ANSWER,
        "unattended_start_limit": _NOT_STARTED,
        "unattended_start_unconfirmed": _NOT_STARTED,
        "message_over_context_limit": CONTEXT_TOO_LONG,
        "network_edge_blocked": _setup(
            "Anthropic's firewall refuses requests from this server's network. The operator "
            "of this server must check its region, VPN and proxy."
        ),
        "named_profile_unusable": _provider(
            "The profile that ANTHROPIC_PROFILE names has no login. The operator of this server "
            "must log it in, or unset ANTHROPIC_PROFILE."
        ),
    }
)
"""By the CLI's `api_error`."""

ERRORS: Final[Mapping[str, Kind | None]] = MappingProxyType(
    {
        "authentication_failed": LOGIN_REFUSED,
        "oauth_org_not_allowed": Kind(
            AccountRefusedError,
            "The organization does not allow Claude Code to use its subscription. The operator of "
            "this server must use an API key, or have its administrator allow it.",
        ),
        "account_on_hold": Kind(
            AccountRefusedError,
            "Anthropic has put this server's account on hold. Its operator must contact "
            "Anthropic's support.",
        ),
        "verification_required": Kind(
            AccountRefusedError,
            "Anthropic requires a verification of this server's account. Its operator must run "
            "`bridge login` and follow the instructions.",
        ),
        "billing_error": NO_CREDIT,
        "cloud_credential_error": _provider(
            "The cloud provider's credentials cannot be loaded. The operator of this server must "
            "renew them."
        ),
        # General kinds: the status says more.
        "overloaded": None,
        "server_error": None,
        "max_output_tokens": None,
        "rate_limit": None,
        "unknown": None,
        "invalid_request": None,
        "model_not_found": None,
    }
)
"""By the `error` of the CLI's synthetic answer; None if the status decides."""
