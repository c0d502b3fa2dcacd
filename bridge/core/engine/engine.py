"""The engine: takes a request through the pool and gives the events of its answer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from bridge.core.access import Quotas
from bridge.core.claude import (
    ALL,
    AnswerReader,
    Capabilities,
    ControlError,
    Facts,
    Launcher,
    ProcessGoneError,
    Profile,
    Session,
    TurnSettings,
    Wire,
    usage_limits_of,
)
from bridge.core.contract import (
    BridgeError,
    CompletionRequest,
    DrainingError,
    Event,
    Finished,
    FinishReason,
    Health,
    InvalidRequestError,
    Model,
    NotLoggedInError,
    PermissionDeniedError,
    PlanLimitError,
    PoolState,
    ProcessFailedError,
    Started,
    Totals,
    UnavailableError,
    Usage,
    UsageLimits,
    shown,
)
from bridge.core.engine.answer_filters import JsonFilter, StopFilter, filtered
from bridge.core.engine.health import account_of, status_of
from bridge.core.engine.models import Catalog
from bridge.core.engine.parking_policy import ParkingPolicy
from bridge.core.engine.planner import Plan, Planner
from bridge.core.engine.schema_checker import SchemaChecker
from bridge.core.engine.timeouts import Deadlines, Limit, TimeLimits
from bridge.core.engine.usage_limits import Admission, OveragePolicy
from bridge.core.pool import Lease, Need, Parking, Pool, PoolLimits, Recycling, Watchdog, Watching
from bridge.core.telemetry import Observer, RequestRecord, kind_of, trace_of
from bridge.core.validation import NOT_EMPTY, UnfitAnswerError, check_sizes, invalid

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine serves; see the settings of the same names."""

    limits: PoolLimits
    timeout: float = 120.0
    """Seconds a whole request may take; the next three are for parts of it."""
    queue_timeout: float = math.inf
    first_token_timeout: float = math.inf
    idle_timeout: float = math.inf
    queue_size: int = 32
    recycling: Recycling = field(default_factory=Recycling)
    watching: Watching = field(default_factory=Watching)
    system_prompt: str | None = None
    """For requests without one; None is Claude Code's preset."""
    aliases: tuple[tuple[str, str], ...] = ()
    refuse_unknown_models: bool = False
    log_bodies: bool = False
    simulated: bool = False
    stop_before_overage: bool = False


@dataclass(slots=True)
class _Progress:
    """How far a request has come, over all attempts at it."""

    started: bool = False
    """Whether `Started` was given."""
    passed_on: bool = False
    """Whether any part of an answer was given, which cannot be taken back."""
    attempts: int = 0
    """Attempts that failed."""
    died: int = 0
    """Those of them whose process ended."""
    unfit: int = 0
    """Those of them whose answer was not what was asked for."""
    parking: Parking | None = None
    reader: AnswerReader | None = None
    """Reads the answer of the latest attempt."""
    spent: Usage = field(default_factory=Usage)
    """Tokens that the attempts before it have used."""
    goes_on: bool = False
    """Whether its caller is known to go on with the conversation."""
    probing: bool = False
    """Whether it finds out how the plan stands after a limit was lifted."""


class Engine:
    """Serves completions from a pool of warm sessions. Use as an async context manager."""

    def __init__(
        self,
        launcher: Launcher,
        options: EngineOptions,
        observer: Observer,
        *,
        capabilities: Capabilities = ALL,
        quotas: Quotas | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._launcher = launcher
        self._options = options
        self._observer = observer
        self._clock = clock
        self._now = now
        self._on_change = on_change
        self._facts: Facts | None = None
        self._facts_known = asyncio.Event()
        self._abilities = capabilities
        self._quotas = quotas or Quotas()
        self._ends: Counter[str] = Counter()
        self._sessions_got: Counter[str] = Counter()
        self._usage_limits: UsageLimits | None = None
        self._usage_limits_asked_at = 0.0
        self._overage = OveragePolicy(options.stop_before_overage)
        self._overage_timer: asyncio.TimerHandle | None = None
        self._planner = Planner(
            options.system_prompt,
            capabilities,
            builtin_tools=launcher.builtin_tools is not None,
            longest_variable=launcher.longest_variable,
        )
        self.schemas = SchemaChecker(launcher.guard)
        self._parking_policy = ParkingPolicy()
        self._draining = False
        self._login_accepted: bool | None = None
        self.pool = Pool(
            self._spawn,
            options.limits,
            queue_size=options.queue_size,
            clock=clock,
            recycling=options.recycling,
            on_change=on_change,
        )
        self._watchdog = Watchdog(self.pool.sessions, options.watching, options.recycling)

    @property
    def launcher(self) -> Launcher:
        """How its processes are started."""
        return self._launcher

    async def start(self) -> None:
        """Start the first process, and the others behind it. Raises what `Session.spawn` does."""
        await self._scout()
        self.pool.start()
        self._watchdog.start()

    async def aclose(self) -> None:
        """End every process, whatever it does."""
        if self._overage_timer is not None:
            self._overage_timer.cancel()
        self._draining = True
        # Whoever waits for the first process waits for none any more.
        self._facts_known.set()
        await self._watchdog.aclose()
        await self.schemas.aclose()
        await self.pool.aclose()

    async def __aenter__(self) -> Engine:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Service

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; close the generator to cancel it."""
        record = RequestRecord(
            request, self._clock(), bodies=self._options.log_bodies, began_at=self._now()
        )
        self._observer.began(record)
        try:
            with self._quotas.admitted(request.caller) as meter:
                progress = _Progress()
                try:
                    async with aclosing(self._complete(request, record, progress)) as events:
                        async for event in events:
                            record.see(event, self._clock())
                            yield event
                finally:
                    if progress.reader is not None:
                        meter.tokens = progress.reader.usage.total_tokens
        except BridgeError as error:
            record.error = error.reason
            raise
        except (asyncio.CancelledError, GeneratorExit):
            record.error = record.error or ("" if record.finished else "CLIENT_CLOSED")
            raise
        except Exception:
            record.error = "INTERNAL"
            raise
        finally:
            self._ended(record)

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """Take note of a request that a door could not read: as much of it as is known."""
        record = RequestRecord(request, self._clock(), began_at=self._now())
        self._observer.began(record)
        record.error = error.reason if isinstance(error, BridgeError) else "INTERNAL"
        self._ended(record)

    def _ended(self, record: RequestRecord) -> None:
        record.ended_at, record.ended_on = self._clock(), self._now()
        record.offered = self._planner.catalog.offered(record.model or record.request.model)
        self._count(record)
        self._observer.ended(record)

    async def models(self, caller: str = "") -> tuple[Model, ...]:
        """List the models on offer that a caller may use."""
        await self._known()
        return self._catalog(caller).models

    async def model(self, name: str, caller: str = "") -> Model:
        """One model on offer that a caller may use; raises ModelNotFoundError."""
        await self._known()
        return self._catalog(caller).find(name)

    async def _known(self) -> None:
        """Wait until the first process has told what there is; raises DrainingError."""
        await self._facts_known.wait()
        if self._facts is None:
            raise DrainingError("The server is shutting down.")

    def _catalog(self, caller: str) -> Catalog:
        return self._planner.catalog.limited_to(self._quotas.limits_of(caller).models)

    def health(self) -> Health:
        """How things stand now."""
        facts = self._facts
        status, detail = status_of(
            facts,
            draining=self._draining,
            usable=self.pool.usable,
            trouble=self.pool.trouble,
            login_accepted=self._login_accepted,
            overage_ahead=self._overage.until(self._usage_limits, self._now()) is not None,
        )
        account = account_of(facts)
        return Health(
            status=status,
            logged_in=account != "none" if self._login_accepted is None else self._login_accepted,
            account="simulated" if self._options.simulated else account,
            cli_version=facts.version if facts else "",
            subscription=str(facts.account.get("subscriptionType") or "") if facts else "",
            simulated=self._options.simulated,
            pool_size=self._options.limits.pool_size,
            processes=self.pool.counts(),
            waiting=self.pool.waiting,
            detail=detail,
            lacking=self._abilities.lacking,
        )

    def pool_state(self) -> PoolState:
        """How the pool stands now."""
        totals = Totals(
            answered=self._ends["answered"],
            failed=self._ends["failed"],
            left=self._ends["left"],
            sessions=dict(self._sessions_got),
            processes_started=self.pool.started,
            processes_ended=self.pool.ended,
            processes_replaced=dict(self.pool.replaced),
        )
        limits = self._options.limits
        return PoolState(self.health(), limits.max_processes, totals, self._usage_limits)

    async def watch_pool(self) -> AsyncGenerator[PoolState, None]:
        """Give how the pool stands now, and again whenever that has changed; without end."""
        last: PoolState | None = None
        while True:
            state = self.pool_state()
            if state != last:
                last = state
                yield state
            else:
                await self.pool.changed()

    def _count(self, record: RequestRecord) -> None:
        failed = "left" if record.error == "CLIENT_CLOSED" else "failed"
        self._ends[failed if record.error else "answered"] += 1
        if record.got:
            self._sessions_got[record.got] += 1
        self.pool.announce()

    async def drain(self) -> None:
        """Refuse new requests and wait for those that run."""
        self._draining = True
        self._on_change()
        await self.pool.drain()

    # The life of a request

    async def _complete(
        self, request: CompletionRequest, record: RequestRecord, progress: _Progress
    ) -> AsyncGenerator[Event, None]:
        if not request.messages:
            raise invalid("messages", NOT_EMPTY)
        check_sizes(request)
        deadlines = Deadlines(
            self._time_limits(request),
            begun=lambda: progress.reader is not None and progress.reader.begun,
            excused=lambda: progress.reader is not None and progress.reader.thinking,
        )
        at, limit = deadlines.next()
        try:
            async with asyncio.timeout_at(at):
                await self._known()
            self._check_model(request)
            await deadlines.bound(self.schemas.admit(request))
            finished = False
            while not finished:
                self._admit(progress)
                plan = self._planner.plan(request)
                progress.reader = plan.reader(self._usage_limits, progress.spent)
                lease = await self._begin(plan, record, deadlines, progress)
                record.asked_at = self._clock()
                parking: Parking | None = None
                try:
                    async with aclosing(self._answer(plan, lease, deadlines, progress)) as events:
                        async for event in events:
                            yield event
                    if progress.probing and progress.parking and not progress.parking.calls:
                        # Others go by what the API says with this answer, which is whole already.
                        with contextlib.suppress(ProcessGoneError, TimeoutError):
                            await lease.session.turn_over()
                    finished = True
                    parking = self._held(plan, progress)
                except (ProcessGoneError, InvalidRequestError, UnfitAnswerError) as error:
                    self._try_again(error, plan, progress)
                    logger.info("request %s is tried again: %s", request.request_id, kind_of(error))
                finally:
                    self.pool.release(lease, parking)
        except TimeoutError as error:
            raise deadlines.error(deadlines.over or limit) from error
        finally:
            deadlines.unwatch()
            if progress.probing:
                self._overage.probed(answered=progress.passed_on)

    def _check_model(self, request: CompletionRequest) -> None:
        allowed = self._quotas.limits_of(request.caller).models
        if not self._planner.catalog.permits(request.model, allowed):
            raise PermissionDeniedError(
                f"This key may not use the model {shown(request.model or 'default')}. "
                f"It may use: {', '.join(allowed)}.",
                field="model",
            )

    def _time_limits(self, request: CompletionRequest) -> TimeLimits:
        options = self._options
        served = TimeLimits(
            options.timeout,
            options.queue_timeout,
            options.first_token_timeout,
            options.idle_timeout,
        )
        asked = (
            request.timeout,
            request.queue_timeout,
            request.first_token_timeout,
            request.idle_timeout,
        )
        return served.within(TimeLimits(*(math.inf if s is None else s for s in asked)))

    async def _answer(
        self, plan: Plan, lease: Lease, deadlines: Deadlines, progress: _Progress
    ) -> AsyncGenerator[Event, None]:
        """Read the answer from the session, shape and check it, and give what is new of it."""
        reader = progress.reader
        assert reader is not None
        filters = plan.filters()
        while reader.stop_reason is None:
            line = await lease.session.receive()
            raw = self._read(lease, reader, line)
            events = filtered(raw, filters)
            stop = next((s.found for s in filters if isinstance(s, StopFilter) and s.found), None)
            if stop is not None:
                # What the model would say on is not asked for any more.
                end = Finished(FinishReason.STOP, reader.usage, stop)
                events = [*events, *filtered([end], filters[1:])]
            whole = next((s.whole for s in filters if isinstance(s, JsonFilter)), None)
            if whole is not None and plan.schema is not None:
                await deadlines.bound(self.schemas.check_answer(plan.schema, whole))
            for event in events:
                if isinstance(event, Started):
                    if progress.started:
                        continue
                    progress.started = True
                    self._note_login(accepted=True)
                elif not isinstance(event, Finished):
                    progress.passed_on = True
                yield event
            if stop is not None:
                return
        progress.parking = plan.parking(reader)

    def _read(self, lease: Lease, reader: AnswerReader, line: Wire) -> list[Event]:
        """Give the events of a line of the answer."""
        try:
            return list(reader.feed(line))
        except NotLoggedInError:
            self._note_login(accepted=False)
            raise
        except PlanLimitError as error:
            if reader.limit_resets_at is not None:
                error.retry_after = max(reader.limit_resets_at - self._now(), 0.0)
            raise
        except (LookupError, TypeError, AttributeError) as error:
            # JSON, and yet a broken line.
            logger.error(
                "process %s is ended: its line failed\n%s", lease.session.pid, trace_of(error)
            )
            lease.session.kill()
            raise ProcessGoneError from error

    def _held(self, plan: Plan, progress: _Progress) -> Parking | None:
        """How the conversation is held open, where it is likely that its caller goes on."""
        parking = progress.parking
        if parking is None or parking.calls or progress.goes_on:
            return parking
        if self._launcher.builtin_tools is not None:
            # What these have read stands in the conversation only: a replay is without it.
            return parking
        worth = self._parking_policy.worth_holding(plan.kind, parking.conversation)
        return parking if worth else None

    def _note_login(self, *, accepted: bool) -> None:
        """Take note of whether the API accepts the login, as its last answer has shown."""
        if accepted is not self._login_accepted:
            self._login_accepted = accepted
            self._on_change()

    def _try_again(self, error: Exception, plan: Plan, progress: _Progress) -> None:
        """Decide whether an attempt that failed is made once more; raise where it is not."""
        progress.attempts += 1
        if progress.reader is not None:
            progress.spent = progress.reader.usage
        match error:
            case ProcessGoneError():
                if self._draining and self.pool.closed:
                    raise DrainingError("The server has shut down.") from error
                progress.died += 1
                if progress.started or progress.died > 1:
                    raise ProcessFailedError(
                        "Claude Code ended in the middle of the answer."
                    ) from error
            case InvalidRequestError():
                # Each refusal takes something out of the plan, so this comes to an end.
                if progress.started or not self._planner.learn(plan, error.message):
                    raise error
            case UnfitAnswerError():
                progress.unfit += 1
                if progress.passed_on or progress.unfit > 1:
                    raise UnavailableError(
                        f"The model's answer {error}.", reason="UNFIT_ANSWER", retryable=False
                    ) from error

    async def _begin(
        self, plan: Plan, record: RequestRecord, deadlines: Deadlines, progress: _Progress
    ) -> Lease:
        """Lease a session and put the request to it; one that fails is replaced once.

        Raises DeadlineError where a limit is reached meanwhile.
        """
        need = plan.need
        # Asked first, since it takes note; of an attempt before it knows no more.
        known = self._parking_policy.goes_on(plan.kind, need.continues)
        progress.goes_on = known or progress.goes_on or plan.request.conversing
        for attempt in (1, 2):
            admitted = attempt > 1 or progress.attempts > 0
            lease = await self._acquire(need, deadlines, admitted=admitted)
            progress.goes_on = progress.goes_on or lease.got == "continued"
            record.leased(lease.got, self._clock())
            deadlines.put()
            at, limit = deadlines.next()
            try:
                # It may have waited, and the plan has changed meanwhile.
                self._admit(progress)
                async with asyncio.timeout_at(at):
                    await self._put(plan, lease, deadlines, record.trace_parent)
            except TimeoutError as error:
                self.pool.release(lease)
                raise deadlines.error(limit) from error
            except (ControlError, ProcessGoneError) as error:
                lease.session.broken = True
                lease.session.kill()
                self.pool.release(lease)
                logger.warning("process %s failed: %s", lease.session.pid, kind_of(error))
                if attempt == 2:
                    raise ProcessFailedError(
                        "Claude Code could not take the request.", retry_after=1
                    ) from error
            except BaseException:
                self.pool.release(lease)
                raise
            else:
                return lease
        raise AssertionError("unreachable")

    def _admit(self, progress: _Progress) -> None:
        """Raise PlanLimitError where paid extra usage would answer."""
        if not progress.probing:
            admission = self._overage.admit(self._usage_limits, self._now())
            progress.probing = admission is Admission.PROBE

    def _on_usage_limits(self, line: Wire, asked_at: float) -> None:
        """Take in what the API says of the plan. Of several processes the newest turn counts."""
        if asked_at < self._usage_limits_asked_at:
            return
        now = self._now()
        self._usage_limits_asked_at = asked_at
        self._usage_limits = usage_limits_of(line, now)
        self._overage.note(self._usage_limits, now)
        if self._overage_timer is not None:
            self._overage_timer.cancel()
            self._overage_timer = None
        until = self._overage.until(self._usage_limits, now)
        if until is not None:
            # So that whoever watches is told that it goes on.
            self._overage_timer = asyncio.get_running_loop().call_later(
                until - now, self.pool.announce
            )
        self.pool.announce()

    async def _acquire(self, need: Need, deadlines: Deadlines, *, admitted: bool) -> Lease:
        deadlines.queue()
        at, limit = deadlines.next()
        try:
            async with asyncio.timeout_at(at):
                return await self.pool.acquire(need, admitted=admitted)
        except TimeoutError as error:
            wait = self.pool.wait_estimate(need) if limit is Limit.QUEUE else None
            raise deadlines.error(limit, retry_after=wait) from error

    async def _put(
        self, plan: Plan, lease: Lease, deadlines: Deadlines, trace_parent: str = ""
    ) -> None:
        session = lease.session
        if session.profile is None:
            await session.initialise(plan.scope.profile)
            self._learn(session)
        await session.configure(plan.settings, trace_parent)
        if lease.got == "continued":
            if plan.last.tool_results:
                await session.resume(plan.last.tool_results, deadlines)
            else:
                await session.ask(plan.last, deadlines)
            return
        await session.offer(plan.offered)
        await session.replay(plan.history)
        await session.ask(plan.last, deadlines)

    # Start

    async def _spawn(self, settings: TurnSettings | None = None) -> Session:
        session = await Session.spawn(
            self._launcher, capabilities=self._abilities, settings=settings
        )
        session.on_usage_limits = self._on_usage_limits
        return session

    async def _scout(self) -> None:
        """Learn from a first process what the CLI offers and which account it uses.

        Raises what `Session.spawn` raises.
        """
        session = await self._first_session()
        if account_of(session.facts) == "none" and self._launcher.has_api_key:
            # No login, but a key of the person's: that is what pays then.
            await session.close()
            self._launcher = dataclasses.replace(self._launcher, use_api_key=True)
            session = await self._first_session()
        self.pool.adopt(session)

    async def _first_session(self) -> Session:
        session = await self._spawn()
        try:
            await session.initialise(Profile(self._options.system_prompt))
        except BaseException:
            await session.close()
            raise
        self._learn(session)
        return session

    def _learn(self, session: Session) -> None:
        facts = session.facts
        if facts is None or facts == self._facts:
            return
        self._facts = facts
        self._planner.catalog = Catalog.from_cli(
            facts.models,
            aliases=dict(self._options.aliases),
            refuse_unknown=self._options.refuse_unknown_models,
        )
        self._facts_known.set()
        self._on_change()
