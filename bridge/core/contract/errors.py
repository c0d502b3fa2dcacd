"""The errors of a request, in words for the caller.

Each message is written for the caller: it never contains text of the CLI, of the system or of
another request. Each API maps the classes to its own status codes in one literal table.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final, Self

SHOWN_CHARACTERS: Final = 100
"""How many characters of a caller's name are repeated."""


def shown(name: str) -> str:
    """Return a caller's name for an error: quoted, truncated, without control characters."""
    return repr(name if len(name) <= SHOWN_CHARACTERS else f"{name[:SHOWN_CHARACTERS]}…")


_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_HALF_A_YEAR: Final = 183 * _DAY


def reset_sentence(resets_at: float, now: float) -> str:
    """Say when a limit resets, in the local time of this machine; times are in Unix seconds."""
    seconds = max(resets_at - now, 0.0)
    at = datetime.fromtimestamp(resets_at).astimezone()
    far = seconds >= _HALF_A_YEAR or at.year != datetime.fromtimestamp(now).astimezone().year
    year = f"{at.year} " if far else ""
    day = f"on {at.day} {at:%b} {year}" if seconds >= _DAY else ""
    if seconds >= 2 * _DAY:
        left = f"{round(seconds / _DAY)} days"
    elif seconds >= 2 * _HOUR:
        left = f"{round(seconds / _HOUR)} hours"
    else:
        minutes = math.ceil(seconds / _MINUTE)
        left = f"{minutes} minute{'' if minutes == 1 else 's'}"
    return f"It resets {day}at {at:%H:%M %Z}, in {left}."


class BridgeError(Exception):
    """The base class: an error whose text is meant for the caller.

    `reason` is a stable name in capitals (google.rpc.ErrorInfo.reason), `retry_after` is in
    seconds, and `retryable` is true if a retry can succeed without anyone's intervention.
    """

    reason = "INTERNAL"
    retryable = False
    retry_seconds = 1.0
    """When a retry makes sense if it can succeed and nothing more precise is known."""

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
        """Details of the cause beyond the message: names and numbers, no texts."""
        self.retry_after = retry_after
        if reason is not None:
            self.reason = reason
        if retryable is not None:
            self.retryable = retryable

    def again(self) -> Self:
        """Return an equal error that has not been raised.

        One that is kept must not have been: its traceback keeps all that its way has seen, such as
        the request.
        """
        made = type(self).__new__(type(self), *self.args)
        made.__dict__.update(self.__dict__)
        return made

    @property
    def retry_hint(self) -> float | None:
        """Return in how many seconds to retry; None if a retry is pointless."""
        if self.retry_after is not None:
            return max(self.retry_after, 0.0)
        return self.retry_seconds if self.retryable else None


class InvalidRequestError(BridgeError):
    """The request cannot be served as it is; `field` is what to change."""

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
    """The bridge's own API key is missing or invalid."""

    reason = "INVALID_API_KEY"


class PermissionDeniedError(BridgeError):
    """The caller is not allowed to do this: its key, Host or Origin; `field` is what to change."""

    reason = "PERMISSION_DENIED"

    def __init__(
        self, message: str, *, field: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(message, reason=reason)
        self.field = field


class ModelNotFoundError(BridgeError):
    """There is no model called `model`; `field` is the parameter with its name."""

    reason = "MODEL_NOT_FOUND"

    def __init__(self, message: str, *, model: str = "", field: str = "model") -> None:
        super().__init__(message)
        self.model = model
        self.field = field


class NotFoundError(BridgeError):
    """Nothing with this `id` exists for the caller; `field` is the parameter with it."""

    reason = "NOT_FOUND"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        reason: str | None = None,
        id: str = "",
    ) -> None:
        super().__init__(message, reason=reason)
        self.field = field
        self.id = id


class TooLargeError(BridgeError):
    """The request is larger than this server accepts."""

    reason = "REQUEST_TOO_LARGE"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class AnswerTooLargeError(TooLargeError):
    """The answer is larger than the server records for a client that may be away."""

    reason = "ANSWER_TOO_LARGE"


class RequestIdInUseError(BridgeError):
    """The caller has used its request id before; `field` is the parameter with the id.

    It is retryable as long as the earlier request may still fail without an answer.
    """

    reason = "REQUEST_ID_IN_USE"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        reason: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, reason=reason, retryable=retryable)
        self.field = field


class AnswerElsewhereError(BridgeError):
    """The answer belongs to another server of the fleet: `replica` is its name.

    A proxy may send the request there, or try the others.
    """

    reason = "ANSWER_ELSEWHERE"

    def __init__(self, id: str, replica: str, *, field: str | None = None) -> None:
        super().__init__(
            f"The answer with the id {shown(id)} belongs to the server {shown(replica)} of this "
            "fleet. Send the request there."
        )
        self.id = id
        self.replica = replica
        self.field = field


class RequestCancelledError(BridgeError):
    """The caller cancelled the request by its id."""

    reason = "REQUEST_CANCELLED"


class PlanLimitError(BridgeError):
    """The account's usage limit is reached. A retry before `retry_after` will fail."""

    reason = "PLAN_LIMIT"
    resets_at: float | None = None
    """When the limit resets, in Unix seconds, if that is known."""

    def tell_reset(self, resets_at: float, now: float) -> None:
        """Add the time at which the limit resets; both times are in Unix seconds."""
        self.resets_at = resets_at
        self.retry_after = max(resets_at - now, 0.0)
        self.message = f"{self.message} {reset_sentence(resets_at, now)}"


class RateLimitedError(BridgeError):
    """Too many requests at the moment, for the API or for the key's own limits.

    The account's usage limit is not reached.
    """

    reason = "RATE_LIMITED"
    retryable = True


class QueueFullError(BridgeError):
    """The queue is full."""

    reason = "QUEUE_FULL"
    retryable = True


class ClientClosedError(BridgeError):
    """The client closed the request."""

    reason = "CLIENT_CLOSED"


class NotLoggedInError(BridgeError):
    """Claude Code has no login, or it is no longer accepted."""

    reason = "CLAUDE_NOT_LOGGED_IN"


class AccountRefusedError(NotLoggedInError):
    """The API knows the account of Claude Code's login, but refuses it."""

    reason = "CLAUDE_ACCOUNT_REFUSED"


class UnavailableError(BridgeError):
    """The upstream API or the CLI process failed; the same request may work later."""

    reason = "UPSTREAM_ERROR"
    retryable = True
    # Claude Code has retried for a while already, and clients retry often by themselves.
    retry_seconds = 10.0


class ProcessFailedError(UnavailableError):
    """A CLI process died, hung or could not be started."""

    reason = "CLAUDE_PROCESS_ERROR"
    retry_seconds = 1.0


class StoreUnavailableError(UnavailableError):
    """The response store cannot be reached.

    It is retryable if the store may come back by itself; others wait for an operator.
    """

    reason = "STORE_UNAVAILABLE"
    retryable = False

    def __init__(self, *, retryable: bool = False) -> None:
        super().__init__(
            "This server cannot access its stored responses; its log has the reason. Requests that "
            "do not build on one can still be answered.",
            retryable=retryable,
        )


class KeysUnavailableError(UnavailableError):
    """The server does not know its API keys yet: where they are stored cannot be reached."""

    reason = "KEYS_UNAVAILABLE"
    retry_seconds = 1.0


class DrainingError(UnavailableError):
    """The server is shutting down."""

    reason = "DRAINING"
    retry_seconds = 1.0


class DeadlineError(BridgeError):
    """The time limit of the request was reached."""

    reason = "DEADLINE_EXCEEDED"


class RequestTimeoutError(BridgeError):
    """The request was not received in time."""

    reason = "REQUEST_TIMEOUT"


class InternalError(BridgeError):
    """A fault of the bridge. Its text is always the same; the log has the details."""

    def __init__(self) -> None:
        super().__init__("The bridge failed to handle this request. Its log has the details.")
