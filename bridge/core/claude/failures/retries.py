"""What the CLI reports when it is about to try an upstream call again (`api_retry`). Pure."""

from __future__ import annotations

from typing import Final

from bridge.core.claude.failures.results import unavailable
from bridge.core.claude.wire import Wire
from bridge.core.contract import BridgeError, RateLimitedError, UnavailableError

LONGEST_WAIT: Final = 10.0
"""Seconds for which the CLI may wait before it tries an upstream call again. Where the API asks for
more, that is an error at once, which says when to try again."""

_CAPACITY: Final = frozenset({429, 529})
"""Statuses on which the CLI itself would try again without end."""


def waiting_for(retry: Wire) -> BridgeError:
    """What keeps the answer waiting."""
    delay = retry.get("retry_delay_ms")
    seconds = delay / 1000 if isinstance(delay, int | float) else None
    status = retry.get("error_status")
    if status == 429:
        return busy(seconds)
    if status is None:
        return UnavailableError(
            "The Anthropic API cannot be reached. Try again later.", retry_after=seconds
        )
    return unavailable(status, seconds)


def gives_up(retry: Wire) -> bool:
    """Whether the CLI's next try is not waited for."""
    status, delay = retry.get("error_status"), retry.get("retry_delay_ms")
    if status in (401, 403):
        return False
    if isinstance(delay, int | float) and delay > LONGEST_WAIT * 1000:
        return True
    attempt, most = retry.get("attempt"), retry.get("max_retries")
    if not isinstance(attempt, int) or not isinstance(most, int):
        return False
    return status in _CAPACITY and attempt > most


def busy(retry_after: float | None = None) -> RateLimitedError:
    """The API takes no more requests for the moment, whatever the account's usage limits."""
    return RateLimitedError(
        "The Anthropic API takes no more requests for the moment.", retry_after=retry_after
    )
