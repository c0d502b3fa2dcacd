"""One request: its limits of time, its attempts, and the session that it uses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from bridge.core.claude import ControlError, ProcessGoneError
from bridge.core.contract import (
    CompletionRequest,
    DrainingError,
    Event,
    Finished,
    InvalidRequestError,
    PermissionDeniedError,
    ProcessFailedError,
    SessionSource,
    Started,
    UnavailableError,
    Usage,
    shown,
)
from bridge.core.engine.attempt import Attempt
from bridge.core.engine.field_names import errors_named_for
from bridge.core.engine.resources import Resources
from bridge.core.engine.timeouts import AnswerProgress, Deadlines, Limit, TimeLimits
from bridge.core.engine.usage_limits import Admission
from bridge.core.pool import Lease, Need, Parking
from bridge.core.telemetry import RequestRecord, kind_of
from bridge.core.validation import UnfitAnswerError

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Failures:
    """The attempts at a request that failed."""

    count: int = 0
    died: int = 0
    """Those of them whose process ended."""
    unfit: int = 0
    """Those of them whose answer was not what was asked for."""
    spent: Usage = field(default_factory=Usage)
    """Tokens that they have used."""


class Completion:
    """Answers one request, in as many attempts as it takes."""

    def __init__(
        self, request: CompletionRequest, record: RequestRecord, resources: Resources
    ) -> None:
        """Its limits of time begin now."""
        self._request = request
        self._record = record
        self._resources = resources
        self._deadlines = Deadlines(
            resources.time_limits.within(_limits_of(request)), self._progress, self._time_out
        )
        self._attempt: Attempt | None = None
        """The latest one."""
        self._failures = _Failures()
        self._admission = Admission.FREE
        self._conversing = request.conversing
        """Whether its caller is known to continue its conversations."""
        self._started = False
        """Whether `Started` was given."""
        self._answered = False
        """Whether any part of an answer was given, which cannot be taken back."""

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts so far."""
        return Usage() if self._attempt is None else self._attempt.usage

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of the answer; raises a BridgeError."""
        request, deadlines = self._request, self._deadlines
        at, limit = deadlines.next()
        try:
            async with asyncio.timeout_at(at):
                await self._resources.account.known()
            self._check_model()
            await deadlines.bound(self._resources.schemas.admit(request))
            finished = False
            while not finished:
                self._admit()
                attempt = self._new_attempt()
                await self._begin(attempt)
                parking: Parking | None = None
                try:
                    async with aclosing(attempt.events(deadlines)) as events:
                        async for event in events:
                            if isinstance(event, Started):
                                if self._started:
                                    continue
                                self._started = True
                                self._resources.account.login_works()
                            elif not isinstance(event, Finished):
                                self._answered = True
                            yield event
                    await self._await_usage_limits(attempt)
                    finished = True
                    parking = self._parking(attempt)
                except (ProcessGoneError, InvalidRequestError, UnfitAnswerError) as error:
                    if isinstance(error, UnfitAnswerError):
                        await attempt.end_turn()
                    self._failed(attempt, error)
                    logger.info("request %s is tried again: %s", request.request_id, kind_of(error))
                finally:
                    self._release(attempt, parking)
        except TimeoutError as error:
            waiting = None if self._attempt is None else self._attempt.waiting
            # Where the API has failed meanwhile, that is of more use than whose time is over.
            raise waiting or deadlines.error(deadlines.reached or limit) from error
        finally:
            if self._admission is Admission.PROBE:
                self._resources.usage_limits.probed(answered=self._answered)

    # Admission

    def _check_model(self) -> None:
        resources, request = self._resources, self._request
        allowed = resources.quotas.limits_of(request.caller).models
        with errors_named_for(request):
            if not resources.planner.catalog.permits(request.model, allowed):
                raise PermissionDeniedError(
                    f"This key may not use the model {shown(request.model or 'default')}. "
                    f"It may use: {', '.join(allowed)}.",
                    field="model",
                )

    def _admit(self) -> None:
        """Raise PlanLimitError where paid extra usage would answer."""
        if self._admission is not Admission.PROBE:
            self._admission = self._resources.usage_limits.admit()

    # An attempt, from its session to the return of it

    def _new_attempt(self) -> Attempt:
        plan = self._resources.planner.plan(self._request)
        self._attempt = Attempt(plan, self._resources, self._failures.spent)
        return self._attempt

    async def _begin(self, attempt: Attempt) -> None:
        """Lease a session and ask it; one that fails is replaced once.

        Raises DeadlineError where a limit is reached meanwhile.
        """
        resources, plan = self._resources, attempt.plan
        need = plan.need
        # Asked first, since it records the request; it does not know earlier attempts at it.
        known = resources.parking_policy.continues(plan.kind, need.continues)
        self._conversing = known or self._conversing
        for first in (True, False):
            lease = await self._acquire(need, admitted=not first or self._failures.count > 0)
            if lease.source is SessionSource.CONTINUED:
                self._conversing = True
            self._record.leased(lease.source, resources.clock())
            self._deadlines.leased()
            at, limit = self._deadlines.next()
            try:
                # It may have waited, and the usage limits have changed meanwhile.
                self._admit()
                async with asyncio.timeout_at(at):
                    await attempt.ask(lease, self._record.trace_parent)
            except TimeoutError as error:
                resources.pool.release(lease)
                raise self._deadlines.error(limit) from error
            except (ControlError, ProcessGoneError) as error:
                lease.session.kill()
                resources.pool.release(lease)
                logger.warning("process %s failed: %s", lease.session.pid, kind_of(error))
                if not first:
                    raise ProcessFailedError(
                        "Claude Code could not take the request.", retry_after=1
                    ) from error
            except BaseException:
                resources.pool.release(lease)
                raise
            else:
                self._record.times.asked_at = resources.clock()
                self._deadlines.watch()
                return

    async def _acquire(self, need: Need, *, admitted: bool) -> Lease:
        deadlines, pool = self._deadlines, self._resources.pool
        deadlines.queued()
        at, limit = deadlines.next()
        try:
            async with asyncio.timeout_at(at):
                return await pool.acquire(need, admitted=admitted)
        except TimeoutError as error:
            wait = pool.wait_estimate(need) if limit is Limit.QUEUE else None
            raise deadlines.error(limit, retry_after=wait) from error

    async def _await_usage_limits(self, attempt: Attempt) -> None:
        """Others wait for what the API reports with this answer, which is whole already."""
        if self._admission is not Admission.PROBE or attempt.lease is None:
            return
        if attempt.parking is not None and not attempt.parking.calls:
            with contextlib.suppress(ProcessGoneError, TimeoutError):
                await attempt.lease.session.turn_over()

    def _parking(self, attempt: Attempt) -> Parking | None:
        """How the conversation is held open, where its caller is likely to continue it."""
        parking = attempt.parking
        if parking is None or parking.calls or self._conversing:
            return parking
        if self._resources.planner.builtin_tools:
            # What these have read stands in the conversation only: a replay is without it.
            return parking
        policy = self._resources.parking_policy
        worth = policy.worth_holding(attempt.plan.kind, parking.conversation)
        return parking if worth else None

    def _release(self, attempt: Attempt, parking: Parking | None) -> None:
        self._deadlines.unwatch()
        self._record.unseen_calls += attempt.unseen_calls
        if attempt.lease is not None:
            lease, attempt.lease = attempt.lease, None
            self._resources.pool.release(lease, parking)

    def _failed(self, attempt: Attempt, error: Exception) -> None:
        """Count an attempt that failed; raise where no other one is made."""
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
                # Each refusal takes something out of the plan, so this comes to an end.
                planner = self._resources.planner
                if self._started or not planner.learn(attempt.plan, error.message):
                    raise error
            case UnfitAnswerError():
                failures.unfit += 1
                if self._answered or failures.unfit > 1:
                    raise UnavailableError(
                        f"The model's answer {error}.", reason="UNFIT_ANSWER", retryable=False
                    ) from error

    # What its limits of time look at

    def _progress(self) -> AnswerProgress:
        return AnswerProgress() if self._attempt is None else self._attempt.progress()

    def _time_out(self) -> None:
        if self._attempt is not None:
            self._attempt.time_out()


def _limits_of(request: CompletionRequest) -> TimeLimits:
    limits = (
        request.timeout,
        request.queue_timeout,
        request.first_token_timeout,
        request.idle_timeout,
    )
    return TimeLimits(*(math.inf if seconds is None else seconds for seconds in limits))
