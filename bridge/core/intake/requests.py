"""What every request passes, whichever engine answers it: its ids, its rules, its key's limits and
its record."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from enum import Enum, auto
from typing import Final, Protocol

from bridge.core.access import Quotas
from bridge.core.answers import Answers, Fleet, RecordingLimits
from bridge.core.contract import (
    BridgeError,
    ClientClosedError,
    CompletionRequest,
    Event,
    RequestCancelledError,
    SessionSource,
    Totals,
    Usage,
)
from bridge.core.intake.billing import Bills, RequestBill
from bridge.core.system import off_loop
from bridge.core.telemetry import Observer, RequestRecord
from bridge.core.validation import is_large, validate


class Answering(Protocol):
    """One request while it is answered."""

    @property
    def usage(self) -> Usage:
        """Tokens used so far."""
        ...

    def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events of the answer; raises a BridgeError."""
        ...


class Answerer(Protocol):
    """What answers valid requests."""

    def answering(
        self, request: CompletionRequest, bill: RequestBill, admitted: Callable[[], None]
    ) -> Answering:
        """Begin to answer; `admitted` is called once the request waits for a process."""
        ...

    async def counted(self, request: CompletionRequest) -> int:
        """Estimate the input tokens of a request; raises a BridgeError."""
        ...

    def offered_model(self, record: RequestRecord) -> str:
        """Return the model that answered, or else the requested one, if it is on offer, or ""."""
        ...

    def billed(self, record: RequestRecord) -> bool:
        """Return whether the account of a request is billed for each token."""
        ...

    def announce(self) -> None:
        """Inform watchers that the counts have changed."""
        ...


_LEFT: Final = frozenset({ClientClosedError.reason, RequestCancelledError.reason})
"""The reasons of an end that the caller wanted."""


class _Outcome(Enum):
    """How a request ended."""

    ANSWERED = auto()
    FAILED = auto()
    LEFT = auto()
    """Its caller disconnected, or cancelled it."""


class Requests:
    """Runs the requests of all callers, and counts them."""

    def __init__(
        self,
        answerer: Answerer,
        observer: Observer,
        quotas: Quotas,
        recordings: RecordingLimits,
        *,
        fleet: Fleet | None = None,
        log_bodies: bool = False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is monotonic, `now` returns Unix seconds."""
        self._answerer = answerer
        self._observer = observer
        self._quotas = quotas
        self._log_bodies = log_bodies
        self._clock = clock
        self._now = now
        self._outcomes: Counter[_Outcome] = Counter()
        self._session_sources: Counter[SessionSource] = Counter()
        self._bills = Bills(self._booked)
        self.answers = Answers(
            self._answered, self.refused, recordings, fleet=fleet, clock=clock, now=now
        )

    async def _answered(
        self,
        request: CompletionRequest,
        admitted: Callable[[], None],
        cancelled: Callable[[], bool],
    ) -> AsyncGenerator[Event, None]:
        """Answer a request and record it.

        Calls `admitted` once it waits for a process; `cancelled` returns whether it was cancelled
        by its id.
        """
        clock = self._clock
        record = RequestRecord(request, clock(), bodies=self._log_bodies, started_on=self._now())
        self._observer.began(record)
        bill = self._bills.open(record)
        try:
            # Before it counts: an invalid request does not count towards its key's limits.
            request = await off_loop(is_large(request), validate, request)
            async with self._quotas.admitted(request.caller) as meter:
                answering = self._answerer.answering(request, bill, admitted)
                try:
                    async with aclosing(answering.events()) as events:
                        async for event in events:
                            record.see(event, clock())
                            yield event
                finally:
                    record.spent = answering.usage
                    meter.tokens = record.spent.total_tokens
        except BridgeError as error:
            record.error, record.cause = error.reason, error.for_log
            raise
        except (asyncio.CancelledError, GeneratorExit):
            if not (record.error or record.finished):
                why = RequestCancelledError if cancelled() else ClientClosedError
                record.error = why.reason
            raise
        except Exception:
            record.error = "INTERNAL"
            raise
        finally:
            self._ended(bill)

    async def count_tokens(self, request: CompletionRequest) -> int:
        """Estimate the input tokens of a request without answering it.

        It takes a turn of the pool. Only a failure is recorded: a count is no completion.
        """
        try:
            request = await off_loop(is_large(request), validate, request)
            async with self._quotas.admitted(request.caller):
                return await self._answerer.counted(request)
        except BridgeError as error:
            self.refused(request, error)
            raise

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """Record a request that a front end could not decode, as far as it is known."""
        record = RequestRecord(request, self._clock(), started_on=self._now())
        self._observer.began(record)
        record.error = error.reason if isinstance(error, BridgeError) else "INTERNAL"
        self._ended(self._bills.open(record))

    def _ended(self, bill: RequestBill) -> None:
        record = bill.record
        record.ended(self._clock(), self._now())
        record.billed = self._answerer.billed(record)
        record.offered_model = self._answerer.offered_model(record)
        if not record.error:
            self._outcomes[_Outcome.ANSWERED] += 1
        else:
            left = record.error in _LEFT
            self._outcomes[_Outcome.LEFT if left else _Outcome.FAILED] += 1
        if record.session_source:
            self._session_sources[record.session_source] += 1
        self._answerer.announce()
        self._observer.ended(record)
        bill.end()

    def _booked(self, record: RequestRecord) -> None:
        self._quotas.charge(record.request.caller, record.cost.usd)
        self._observer.booked(record)

    async def booked(self) -> None:
        """Wait until the cost of all requests so far is known, as far as it will be."""
        await self._bills.booked()

    async def finished(self) -> None:
        """Wait for the detached answers, and until everything is booked."""
        await self.answers.finished()
        await self._bills.booked()

    async def aclose(self) -> None:
        """End what is left, once nothing answers requests any more."""
        self._bills.close()
        await self.answers.aclose()

    def totals(self) -> Totals:
        """Return the counts of requests since the start."""
        return Totals(
            answered=self._outcomes[_Outcome.ANSWERED],
            failed=self._outcomes[_Outcome.FAILED],
            left=self._outcomes[_Outcome.LEFT],
            sessions={str(source): n for source, n in self._session_sources.items()},
        )
