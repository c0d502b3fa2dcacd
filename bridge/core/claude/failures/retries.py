"""The CLI's reports that it is about to retry an upstream call (`api_retry`). Pure."""

from __future__ import annotations

from typing import Final

from bridge.core.claude.failures.results import unavailable
from bridge.core.claude.wire import Wire
from bridge.core.contract import BridgeError, RateLimitedError, UnavailableError

LONGEST_WAIT: Final = 10.0
"""Seconds that the CLI may wait before a retry. If the API asks for more, the request fails at once
with the retry time."""

_CAPACITY: Final = frozenset({429, 529})
"""Statuses on which the CLI itself would retry indefinitely."""


def waiting_for(retry: Wire) -> BridgeError:
    """Return the error that delays the answer."""
    delay = retry.get("retry_delay_ms")
    # A shorter delay is the CLI's own backoff, too short for clients: they repeat a whole request.
    seconds = max(delay / 1000 if isinstance(delay, int | float) else 0.0, LONGEST_WAIT)
    status = retry.get("error_status")
    if status == 429:
        return busy(seconds)
    if status is None:
        return UnavailableError(
            "The Anthropic API cannot be reached. Try again later.", retry_after=seconds
        )
    return unavailable(status, seconds)


def gives_up(retry: Wire) -> bool:
    """Whether to fail instead of waiting for the CLI's next retry."""
    status, delay = retry.get("error_status"), retry.get("retry_delay_ms")
    if status in (401, 403):
        return False
    if isinstance(delay, int | float) and delay > LONGEST_WAIT * 1000:
        return True
    attempt, most = retry.get("attempt"), retry.get("max_retries")
    if not isinstance(attempt, int) or not isinstance(most, int):
        return False
    return status in _CAPACITY and attempt > most


def busy(retry_after: float = LONGEST_WAIT) -> RateLimitedError:
    """The API temporarily accepts no more requests, regardless of the account's usage limits."""
    return RateLimitedError(
        "The Anthropic API accepts no more requests at the moment.", retry_after=retry_after
    )
