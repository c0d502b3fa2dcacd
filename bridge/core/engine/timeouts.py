"""The time limits of a request, as a whole and in each of its phases.

A request waits for a process, then for the first part of its answer, then for each further part.
Each phase has a limit besides that of the whole; the wait for a process is part of the wait for the
first part.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bridge.core.contract import DeadlineError


class Limit(StrEnum):
    """The limit that a request reached: the reason of its error."""

    TOTAL = "DEADLINE_EXCEEDED"
    QUEUE = "QUEUE_TIMEOUT"
    FIRST_TOKEN = "FIRST_TOKEN_TIMEOUT"
    IDLE = "IDLE_TIMEOUT"


MESSAGES: Final[Mapping[Limit, str]] = {
    Limit.TOTAL: "The request took longer than {:g} seconds.",
    Limit.QUEUE: "No process became free within {:g} seconds.",
    Limit.FIRST_TOKEN: "The model did not start to answer within {:g} seconds.",
    Limit.IDLE: "The model was silent for {:g} seconds in the middle of its answer.",
}


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Limits in seconds; infinity means none."""

    total: float = math.inf
    """From the request to the end of its answer."""
    queue: float = math.inf
    """Waiting for a process."""
    first_token: float = math.inf
    """To the first part of the answer, a thought included, and with the wait for a process."""
    idle: float = math.inf
    """Between one part of the answer and the next. While the model thinks, it may be silent."""

    def within(self, other: TimeLimits) -> TimeLimits:
        """Return the shorter of each pair of limits."""
        return TimeLimits(
            min(self.total, other.total),
            min(self.queue, other.queue),
            min(self.first_token, other.first_token),
            min(self.idle, other.idle),
        )

    def seconds(self, limit: Limit) -> float:
        """Return how long a request may be in the phase that a limit is for."""
        match limit:
            case Limit.TOTAL:
                return self.total
            case Limit.QUEUE:
                return min(self.queue, self.first_token)
            case Limit.FIRST_TOKEN:
                return self.first_token
            case Limit.IDLE:
                return self.idle


@dataclass(frozen=True, slots=True)
class AnswerProgress:
    """The progress of an answer; times in seconds of one clock."""

    begun: bool = False
    """Whether the answer has started."""
    last_line_at: float = 0.0
    """When the last part of it arrived."""
    excused: bool = False
    """Whether silence is excused now: the model thinks, or output is still to be read."""


@dataclass(frozen=True, slots=True)
class RequestProgress:
    """The progress of a request; times in seconds of one clock."""

    started_at: float
    waits_since: float
    """When it began to wait for the process of its current attempt."""
    leased: bool = False
    """Whether it was assigned one."""
    answer: AnswerProgress = AnswerProgress()


def next_limit(limits: TimeLimits, request: RequestProgress, now: float) -> tuple[float, Limit]:
    """Return when the next limit is reached, and which one.

    An excused wait counts as if it started now. Silence counts only once the answer has started.
    """
    total = request.started_at + limits.total
    answer = request.answer
    if not request.leased:
        queued_until = request.waits_since + limits.seconds(Limit.QUEUE)
        return min((total, Limit.TOTAL), (queued_until, Limit.QUEUE))
    if answer.begun:
        silent_since = now if answer.excused else answer.last_line_at
        return min((total, Limit.TOTAL), (silent_since + limits.idle, Limit.IDLE))
    waits_since = now if answer.excused else request.waits_since
    return min((total, Limit.TOTAL), (waits_since + limits.first_token, Limit.FIRST_TOKEN))


class Deadlines:
    """The time limits of one request. Times are those of the running loop.

    The lines of the answer cost nothing here: when the next limit could be reached, one timer
    checks whether it was.
    """

    def __init__(
        self,
        limits: TimeLimits,
        answer: Callable[[], AnswerProgress] = AnswerProgress,
        on_reached: Callable[[], None] = lambda: None,
        messages: Mapping[Limit, str] = MESSAGES,
        *,
        since: float | None = None,
    ) -> None:
        """Start at `since`, in seconds of the loop; None is now.

        `answer` returns the progress of the answer; for `on_reached` see `watch`. `messages` are
        those of the errors, with a place for the seconds.
        """
        self._limits = limits
        self._answer = answer
        self._on_reached = on_reached
        self._messages = messages
        self._time = asyncio.get_running_loop().time
        self._started_at = self._time() if since is None else since
        self._waits_since = self._started_at
        self._leased = False
        self._timer: asyncio.TimerHandle | None = None
        self.reached: Limit | None = None
        """The limit that was reached, once `watch` has detected it."""

    def queued(self) -> None:
        """Record that the request waits for a process, its first or another."""
        if self._leased:
            self._waits_since = self._time()
            self._leased = False
        self.unwatch()

    def leased(self) -> None:
        """Record that the request has its process: it now waits for the first token."""
        self._leased = True

    def next(self) -> tuple[float, Limit]:
        """Return when the next limit is reached, and which one."""
        request = RequestProgress(self._started_at, self._waits_since, self._leased, self._answer())
        return next_limit(self._limits, request, self._time())

    async def bound(self, work: Awaitable[None]) -> None:
        """Await work that only counts towards the total limit; raises DeadlineError."""
        try:
            async with asyncio.timeout_at(self._started_at + self._limits.total):
                await work
        except TimeoutError as error:
            raise self.error(Limit.TOTAL) from error

    def watch(self) -> None:
        """Call `on_reached` when a limit is reached, until `unwatch`."""
        self.unwatch()
        self._look()

    def unwatch(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        at, limit = self.next()
        if at <= self._time():
            self._timer = None
            self.reached = limit
            self._on_reached()
        else:
            # Nothing else would check: the answer may start in the next moment, and then stall.
            at = min(at, self._time() + self._limits.idle)
            if at < math.inf:
                self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def error(self, limit: Limit, *, retry_after: float | None = None) -> DeadlineError:
        """Return the error for the caller when a limit was reached."""
        seconds = self._limits.seconds(limit)
        return DeadlineError(
            self._messages[limit].format(seconds),
            reason=limit,
            # No work was started for a request that only waited.
            retryable=limit is Limit.QUEUE,
            retry_after=retry_after,
        )
