"""How long a request may take, as a whole and in each of its parts.

A request waits for a process, then for the first of its answer, then for each further piece of
it. Each of these has a limit of its own beside that of the whole.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from bridge.core.contract import DeadlineError


class Limit(StrEnum):
    """Which limit a request came to: the reason of its error."""

    TOTAL = "DEADLINE_EXCEEDED"
    QUEUE = "QUEUE_TIMEOUT"
    FIRST_TOKEN = "FIRST_TOKEN_TIMEOUT"
    IDLE = "IDLE_TIMEOUT"


_MESSAGES = {
    Limit.TOTAL: "The request took longer than {:g} seconds.",
    Limit.QUEUE: "No process became free within {:g} seconds.",
    Limit.FIRST_TOKEN: "The model did not begin to answer within {:g} seconds.",
    Limit.IDLE: "The model was silent for {:g} seconds in the middle of its answer.",
}


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Limits in seconds; infinity is none."""

    total: float = math.inf
    """From the request to the end of its answer."""
    queue: float = math.inf
    """Waiting for a process."""
    first_token: float = math.inf
    """From there to the first piece of the answer, thinking included."""
    idle: float = math.inf
    """Between one piece of the answer and the next. While the model thinks it may be silent."""

    def within(self, other: TimeLimits) -> TimeLimits:
        """The shorter of each two limits."""
        return TimeLimits(
            min(self.total, other.total),
            min(self.queue, other.queue),
            min(self.first_token, other.first_token),
            min(self.idle, other.idle),
        )

    def seconds(self, limit: Limit) -> float:
        """One of the limits."""
        match limit:
            case Limit.TOTAL:
                return self.total
            case Limit.QUEUE:
                return self.queue
            case Limit.FIRST_TOKEN:
                return self.first_token
            case Limit.IDLE:
                return self.idle


@dataclass(frozen=True, slots=True)
class AnswerProgress:
    """How far the answer to a request is; times in seconds of one clock."""

    begun: bool = False
    """Whether the answer has begun."""
    last_line_at: float = 0.0
    """When something last came of it."""
    excused: bool = False
    """Whether silence means nothing now: the model thinks, or what came is yet to be read."""


@dataclass(frozen=True, slots=True)
class RequestProgress:
    """How far a request is; times in seconds of one clock."""

    started_at: float
    leased_at: float | None = None
    """When it was assigned a process."""
    answer: AnswerProgress = AnswerProgress()


def next_limit(limits: TimeLimits, request: RequestProgress, now: float) -> tuple[float, Limit]:
    """The limit that comes next, and when.

    What is excused comes as if the wait for it began now. Silence counts once the answer has
    begun, and not before.
    """
    total = request.started_at + limits.total
    answer = request.answer
    if request.leased_at is None:
        return min((total, Limit.TOTAL), (now + limits.queue, Limit.QUEUE))
    if answer.begun:
        silent_since = now if answer.excused else answer.last_line_at
        return min((total, Limit.TOTAL), (silent_since + limits.idle, Limit.IDLE))
    waits_since = now if answer.excused else request.leased_at
    return min((total, Limit.TOTAL), (waits_since + limits.first_token, Limit.FIRST_TOKEN))


class Deadlines:
    """The limits of time of one request. Times are those of the running loop.

    The lines of the answer cost nothing here: one timer looks, when the next limit could be
    reached, whether it was.
    """

    def __init__(
        self,
        limits: TimeLimits,
        answer: Callable[[], AnswerProgress] = AnswerProgress,
        on_reached: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin now. `answer` is asked for the progress of the answer; for `on_reached` see
        `watch`."""
        self._limits = limits
        self._answer = answer
        self._on_reached = on_reached
        self._time = asyncio.get_running_loop().time
        self._started_at = self._time()
        self._leased_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.reached: Limit | None = None
        """The limit that was reached, once `watch` has found it."""

    def queued(self) -> None:
        """The request waits for a process, its first or another, from now on."""
        self._leased_at = None
        self.unwatch()

    def leased(self) -> None:
        """The request has its process: from now on it waits for the first token."""
        self._leased_at = self._time()

    def next(self) -> tuple[float, Limit]:
        """The limit that comes next, and when."""
        request = RequestProgress(self._started_at, self._leased_at, self._answer())
        return next_limit(self._limits, request, self._time())

    async def bound(self, work: Awaitable[None]) -> None:
        """Await what counts towards the limit of the whole alone; raises DeadlineError."""
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
        """Watch no longer."""
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
            # Nothing else would look: the answer may begin in the next moment, and fall silent.
            at = min(at, self._time() + self._limits.idle)
            if at < math.inf:
                self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def error(self, limit: Limit, *, retry_after: float | None = None) -> DeadlineError:
        """The error for the caller when a limit was reached."""
        seconds = self._limits.seconds(limit)
        return DeadlineError(
            _MESSAGES[limit].format(seconds),
            reason=limit,
            # Nothing was begun for one that only waited.
            retryable=limit is Limit.QUEUE,
            retry_after=retry_after,
        )
