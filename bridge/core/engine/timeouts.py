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
class Standing:
    """How far a request is; times in seconds of one clock."""

    started_at: float
    put_at: float | None = None
    """When it was put to a process."""
    heard_at: float = 0.0
    """When something was last heard of its answer."""
    begun: bool = False
    """Whether the answer has begun."""
    excused: bool = False
    """Whether silence means nothing now: the model thinks, or what it said is yet to be read."""


def next_limit(limits: TimeLimits, standing: Standing, now: float) -> tuple[float, Limit]:
    """The limit that comes next, and when.

    What is excused comes as if the wait for it began now. Silence counts once the answer has
    begun, and not before.
    """
    total = standing.started_at + limits.total
    if standing.put_at is None:
        return min((total, Limit.TOTAL), (now + limits.queue, Limit.QUEUE))
    if standing.begun:
        silent_since = now if standing.excused else standing.heard_at
        return min((total, Limit.TOTAL), (silent_since + limits.idle, Limit.IDLE))
    waits_since = now if standing.excused else standing.put_at
    return min((total, Limit.TOTAL), (waits_since + limits.first_token, Limit.FIRST_TOKEN))


class Deadlines:
    """The deadlines with one request. Times are those of the running loop.

    What is said in the answer costs nothing here: one timer looks, when the next limit could be
    reached, whether it was.
    """

    def __init__(
        self,
        limits: TimeLimits,
        *,
        begun: Callable[[], bool] = lambda: False,
        excused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin now. For `begun` and `excused` see `Standing`."""
        self._limits = limits
        self._begun = begun
        self._excused = excused
        self._time = asyncio.get_running_loop().time
        self._started_at = self._time()
        self._put_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at: Callable[[], float] = lambda: self._started_at
        self._pending: Callable[[], bool] = lambda: False
        self._on_over: Callable[[], None] = lambda: None
        self.over: Limit | None = None
        """The limit that was reached, once that was found out by `watch`."""

    def queue(self) -> None:
        """The request waits for a process, its first or another, from now on."""
        self._put_at = None
        self.unwatch()

    def put(self) -> None:
        """The request has its process: from now on it waits for the first token."""
        self._put_at = self._time()

    def next(self) -> tuple[float, Limit]:
        """The limit that comes next, and when."""
        standing = Standing(
            self._started_at,
            self._put_at,
            self._heard_at(),
            self._begun(),
            self._excused() or self._pending(),
        )
        return next_limit(self._limits, standing, self._time())

    async def bound(self, work: Awaitable[None]) -> None:
        """Await what counts towards the limit of the whole alone; raises DeadlineError."""
        try:
            async with asyncio.timeout_at(self._started_at + self._limits.total):
                await work
        except TimeoutError as error:
            raise self.error(Limit.TOTAL) from error

    def watch(
        self,
        heard_at: Callable[[], float],
        pending: Callable[[], bool],
        on_over: Callable[[], None],
    ) -> None:
        """Call `on_over` when a limit is reached, until `unwatch`.

        `heard_at` says when something was last heard, and `pending` whether something was
        heard that nobody has read yet.
        """
        self.unwatch()
        self._heard_at, self._pending, self._on_over = heard_at, pending, on_over
        self._look()

    def unwatch(self) -> None:
        """Watch no longer."""
        self._pending = lambda: False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        at, limit = self.next()
        if at <= self._time():
            self._timer = None
            self.over = limit
            self._on_over()
        else:
            # Nothing else would look: the answer may begin in the next moment, and fall silent.
            at = min(at, self._time() + self._limits.idle)
            if at < math.inf:
                self._timer = asyncio.get_running_loop().call_at(at, self._look)

    def error(self, limit: Limit, *, retry_after: float | None = None) -> DeadlineError:
        """What the caller is told of a limit that was reached."""
        seconds = self._limits.seconds(limit)
        return DeadlineError(
            _MESSAGES[limit].format(seconds),
            reason=limit,
            # Nothing was begun for one that only waited.
            retryable=limit is Limit.QUEUE,
            retry_after=retry_after,
        )
