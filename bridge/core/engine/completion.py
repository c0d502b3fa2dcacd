"""One request: its time limits, its attempts, and the session that it uses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from bridge.core.claude import ControlError, ProcessGoneError
from bridge.core.contract import (
    Charge,
    CompletionRequest,
    DrainingError,
    Event,
    Finished,
    InvalidRequestError,
    ProcessFailedError,
    SessionSource,
    Started,
    UnavailableError,
    Usage,
)
from bridge.core.engine.admission import check_model, lease_for, limits_of
from bridge.core.engine.attempt import Attempt
from bridge.core.engine.resources import Resources
from bridge.core.engine.timeouts import AnswerProgress, Deadlines
from bridge.core.engine.usage_limits import Admission
from bridge.core.intake import RequestBill
from bridge.core.pool import Lease, Parking
from bridge.core.system import off_loop
from bridge.core.telemetry import RequestRecord, kind_of
from bridge.core.validation import UnfitAnswerError, is_large

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Failures:
    """The failed attempts at a request."""

    count: int = 0
    died: int = 0
    """Attempts whose process ended."""
    unfit: int = 0
    """Attempts whose answer was unfit."""
    spent: Usage = field(default_factory=Usage)
    """Tokens used by them."""


class Completion:
    """Answers one request, in as many attempts as needed."""

    def __init__(
        self,
        request: CompletionRequest,
        record: RequestRecord,
        resources: Resources,
        bill: RequestBill,
        admitted: Callable[[], None] = lambda: None,
        *,
        since: float | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Start its time limits, at `since` of the loop's time; None is now.

        `admitted` is called once it waits for a process. `check` is called again right before it
        is asked, and raises a BridgeError if it may not be.
        """
        self._request = request
        self._record = record
        self._resources = resources
        self._bill = bill
        self._admitted = admitted
        self._check = check
        self._large = is_large(request)
        self._deadlines = Deadlines(
            resources.time_limits.within(limits_of(request)),
            self._progress,
            self._time_out,
            since=since,
        )
        self._attempt: Attempt | None = None
        """The latest attempt."""
        self._failures = _Failures()
        self._admission = Admission.FREE
        self._conversing = request.conversing
        """Whether the caller is known to continue its conversations."""
        self._started = False
        """Whether `Started` was yielded."""
        self._answered = False
        """Whether any part of an answer was yielded; it cannot be taken back."""

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts so far."""
        return Usage() if self._attempt is None else self._attempt.usage

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events of the answer; raises a BridgeError."""
        request, deadlines = self._request, self._deadlines
        at, limit = deadlines.next()
        try:
            async with asyncio.timeout_at(at):
                await self._resources.account.known()
            check_model(request, self._resources)
            await deadlines.bound(self._resources.schemas.admit(request))
            finished = False
            while not finished:
                self._admit()
                attempt = await self._new_attempt()
                await self._begin(attempt)
                parking: Parking | None = None
                try:
                    async with aclosing(attempt.events(deadlines)) as events:
                        async for event in events:
                            if isinstance(event, Started):
                                if self._started:
                                    continue
                                self._started = True
                                self._resources.works()
                            elif not isinstance(event, Finished):
                                self._answered = True
                            elif request.include_cost:
                                event = replace(event, charge=await self._charge(attempt))
                            yield event
                    await self._await_usage_limits(attempt)
                    finished = True
                    parking = self._parking(attempt)
                except (ProcessGoneError, InvalidRequestError, UnfitAnswerError) as error:
                    if isinstance(error, UnfitAnswerError):
                        await attempt.end_turn()
                    self._failed(attempt, error)
                    logger.info("retrying request %s: %s", request.request_id, kind_of(error))
                finally:
                    self._release(attempt, parking)
        except TimeoutError as error:
            waiting = None if self._attempt is None else self._attempt.waiting
            # If the API has failed meanwhile, its error is more useful than the time limit.
            raise waiting or deadlines.error(deadlines.reached or limit) from error
        finally:
            if self._admission is Admission.PROBE:
                self._resources.usage_limits.probed(answered=self._answered)

    # Admission

    def _admit(self) -> None:
        """Raise a BridgeError if it may not be asked, or only paid extra usage would answer."""
        self._check()
        if self._admission is not Admission.PROBE:
            self._admission = self._resources.usage_limits.admit()

    # One attempt, from leasing its session to releasing it

    async def _new_attempt(self) -> Attempt:
        plan = await off_loop(self._large, self._resources.planner.plan, self._request)
        self._attempt = Attempt(plan, self._resources, self._failures.spent, large=self._large)
        return self._attempt

    async def _begin(self, attempt: Attempt) -> None:
        """Lease a session and ask it; a failed one is replaced once.

        Raises DeadlineError if a limit is reached meanwhile.
        """
        resources, plan = self._resources, attempt.plan
        need = await off_loop(self._large, plan.need)
        # The attempt is asked first, since it records the request; it knows no earlier attempts.
        known = resources.parking_policy.continues(plan.kind, need.continues)
        self._conversing = known or self._conversing
        for first in (True, False):
            admitted = not first or self._failures.count > 0
            lease = await lease_for(
                need, resources, self._deadlines, admitted=admitted, queued=self._admitted
            )
            if lease.source is SessionSource.CONTINUED:
                self._conversing = True
            self._record.leased(lease.source, resources.clock())
            self._deadlines.leased()
            at, limit = self._deadlines.next()
            try:
                # The request may have waited, and what admitted it have changed meanwhile.
                self._admit()
                async with asyncio.timeout_at(at):
                    await attempt.ask(lease, self._record.trace_parent)
            except TimeoutError as error:
                self._give_back(lease)
                raise self._deadlines.error(limit) from error
            except (ControlError, ProcessGoneError) as error:
                lease.session.kill()
                self._give_back(lease)
                logger.warning("process %s failed: %s", lease.session.pid, kind_of(error))
                if not first:
                    raise ProcessFailedError(
                        "Claude Code failed to accept the request.", retry_after=1
                    ) from error
            except BaseException:
                self._give_back(lease)
                raise
            else:
                self._record.times.asked_at = resources.clock()
                self._deadlines.watch()
                return

    async def _charge(self, attempt: Attempt) -> Charge:
        """Return what the request has cost; its answer is complete."""
        assert attempt.lease is not None
        if attempt.parking is None:
            # The model may still write: a stop sequence has ended the answer, not the turn.
            await attempt.end_turn()
        cost = await self._bill.so_far() + await attempt.lease.session.unbooked()
        return Charge(cost.rounded_usd, self._resources.account.billed, self._record.payer)

    async def _await_usage_limits(self, attempt: Attempt) -> None:
        """Wait for the usage limits that the API reports with this answer, for other requests'
        sake."""
        if self._admission is not Admission.PROBE or attempt.lease is None:
            return
        if attempt.parking is not None and not attempt.parking.calls:
            with contextlib.suppress(ProcessGoneError, TimeoutError):
                await attempt.lease.session.turn_over()

    def _parking(self, attempt: Attempt) -> Parking | None:
        """Return how the conversation is held open, if its caller is likely to continue it."""
        parking = attempt.parking
        if parking is None or parking.calls or self._conversing:
            return parking
        if self._resources.planner.builtin_tools:
            # What these tools read is in the conversation only: a replay would lack it.
            return parking
        policy = self._resources.parking_policy
        worth = policy.worth_holding(attempt.plan.kind, parking.conversation)
        return parking if worth else None

    def _release(self, attempt: Attempt, parking: Parking | None) -> None:
        self._deadlines.unwatch()
        self._record.unseen_calls += attempt.unseen_calls
        if attempt.lease is not None:
            lease, attempt.lease = attempt.lease, None
            self._give_back(lease, parking)

    def _give_back(self, lease: Lease, parking: Parking | None = None) -> None:
        self._resources.pool.release(lease, parking, self._bill.expect())

    def _failed(self, attempt: Attempt, error: Exception) -> None:
        """Count a failed attempt; raise if there is no other one."""
        failures = self._failures
        failures.count += 1
        failures.spent = attempt.usage
        match error:
            case ProcessGoneError():
                if self._resources.pool.closed:
                    raise DrainingError("The server has shut down.") from error
                failures.died += 1
                if self._started or failures.died > 1:
                    raise ProcessFailedError(
                        "Claude Code ended in the middle of the answer."
                    ) from error
            case InvalidRequestError():
                # Each refusal removes something from the plan, so this terminates.
                planner = self._resources.planner
                if self._started or not planner.learn(attempt.plan, error.message):
                    raise error
            case UnfitAnswerError():
                failures.unfit += 1
                if self._answered or failures.unfit > 1:
                    raise UnavailableError(
                        f"The model's answer {error}.", reason="UNFIT_ANSWER", retryable=False
                    ) from error

    # Used by its time limits

    def _progress(self) -> AnswerProgress:
        return AnswerProgress() if self._attempt is None else self._attempt.progress()

    def _time_out(self) -> None:
        if self._attempt is not None:
            self._attempt.time_out()
