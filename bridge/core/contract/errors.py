"""Everything that can go wrong with a request, in words that a caller may read.

The message of each is written for the caller: it never holds text of the CLI, of the
system or of another request. The doors each map the classes to their own status in one
literal table.
"""

from __future__ import annotations

from typing import Final

SHOWN_CHARACTERS: Final = 100
"""How much of a name that a caller sent is repeated."""


def shown(name: str) -> str:
    """A name that a caller sent, for an error: in quotes, cut off, nothing that steers a screen."""
    return repr(name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}…")


class BridgeError(Exception):
    """The root: an error whose text is meant for the caller.

    `reason` is a stable name in capitals (google.rpc.ErrorInfo.reason), `retry_after` is in
    seconds, and `retryable` says whether trying again can help without a person's doing.
    """

    reason = "INTERNAL"
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.for_log = ""
        """What is known of the cause beyond the message: names and numbers, no texts."""
        self.retry_after = retry_after
        if reason is not None:
            self.reason = reason
        if retryable is not None:
            self.retryable = retryable


class InvalidRequestError(BridgeError):
    """The request cannot be served as it is; `field` names what to change."""

    reason = "INVALID_VALUE"

    def __init__(self, message: str, *, field: str | None = None, reason: str | None = None):
        super().__init__(message, reason=reason)
        self.field = field
        self.others: tuple[InvalidRequestError, ...] = ()
        """What else is wrong with the same request."""


class UnsupportedError(InvalidRequestError):
    """A parameter or a value that this server does not support."""

    reason = "UNSUPPORTED_VALUE"


class AuthenticationError(BridgeError):
    """The bridge's own key is missing or wrong."""

    reason = "INVALID_API_KEY"


class PermissionDeniedError(BridgeError):
    """The caller may not do this: its key, its Host or its Origin; `field` names what to change."""

    reason = "PERMISSION_DENIED"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ModelNotFoundError(BridgeError):
    """No model of this name."""

    reason = "MODEL_NOT_FOUND"

    def __init__(self, message: str, *, field: str = "model") -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(BridgeError):
    """Nothing of this id is stored for the caller; `field` names the parameter with the id."""

    reason = "NOT_FOUND"

    def __init__(self, message: str, *, field: str | None = None, reason: str | None = None):
        super().__init__(message, reason=reason)
        self.field = field


class TooLargeError(BridgeError):
    """The request is larger than this server takes."""

    reason = "REQUEST_TOO_LARGE"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class PlanLimitError(BridgeError):
    """The person's plan is used up for now. Retrying before `retry_after` is in vain."""

    reason = "PLAN_LIMIT"


class RateLimitedError(BridgeError):
    """No more requests for the moment, by the API or by the key's own limits.

    The plan itself is not used up.
    """

    reason = "RATE_LIMITED"
    retryable = True


class QueueFullError(BridgeError):
    """More requests wait than the queue holds."""

    reason = "QUEUE_FULL"
    retryable = True


class ClientClosedError(BridgeError):
    """The caller went away."""

    reason = "CLIENT_CLOSED"


class NotLoggedInError(BridgeError):
    """Claude Code has no login, or one that is no longer accepted."""

    reason = "CLAUDE_NOT_LOGGED_IN"


class AccountRefusedError(NotLoggedInError):
    """The API knows the account of Claude Code's login, and does not serve it."""

    reason = "CLAUDE_ACCOUNT_REFUSED"


class UnavailableError(BridgeError):
    """The upstream API or the CLI process failed; the same request may work later."""

    reason = "UPSTREAM_ERROR"
    retryable = True


class ProcessFailedError(UnavailableError):
    """A CLI process died, hung or could not be started."""

    reason = "CLAUDE_PROCESS_ERROR"


class StoreUnavailableError(UnavailableError):
    """The store of responses cannot be reached, until an operator repairs it."""

    reason = "STORE_UNAVAILABLE"
    retryable = False

    def __init__(self) -> None:
        super().__init__(
            "This server cannot reach its stored responses; its log says why. A request that "
            "builds on none of them can still be answered."
        )


class DrainingError(UnavailableError):
    """The server is shutting down."""

    reason = "DRAINING"


class DeadlineError(BridgeError):
    """The time for the request is over."""

    reason = "DEADLINE_EXCEEDED"


class RequestTimeoutError(BridgeError):
    """The request itself did not come in time."""

    reason = "REQUEST_TIMEOUT"


class InternalError(BridgeError):
    """A fault of the bridge. Its text is always the same; the log has the rest."""

    def __init__(self) -> None:
        super().__init__("The bridge failed on this request. Its log has the details.")
