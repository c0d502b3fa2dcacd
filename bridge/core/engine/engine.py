"""The engine: serves completions from a pool of warm sessions."""

# long: the face of the core, one method for each thing that a front end asks.
from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum, auto

from bridge.core.access import Quotas
from bridge.core.answers import Answers, RecordingLimits
from bridge.core.claude import (
    ALL,
    AccountFile,
    Capabilities,
    Facts,
    Launcher,
    Profile,
    Session,
)
from bridge.core.contract import (
    Allowances,
    BridgeError,
    CompletionRequest,
    DetachedAnswer,
    Event,
    Health,
    Model,
    OnEnd,
    PoolState,
    SessionSource,
    Totals,
)
from bridge.core.engine.billing import Bills, RequestBill
from bridge.core.engine.completion import Completion
from bridge.core.engine.counting import count_tokens
from bridge.core.engine.health import AccountState, status_of
from bridge.core.engine.parking_policy import ParkingPolicy
from bridge.core.engine.planning import Catalog, ModelNames, Planner
from bridge.core.engine.resources import Resources
from bridge.core.engine.schema_checker import SchemaChecker
from bridge.core.engine.timeouts import TimeLimits
from bridge.core.engine.usage_limits import OveragePolicy, UsageLimitsState
from bridge.core.pool import Pool, PoolLimits, Recycling, Watchdog, WatchdogLimits
from bridge.core.system import off_loop
from bridge.core.telemetry import Observer, RequestRecord
from bridge.core.validation import is_large, validate

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The options of an engine; see the settings of the same names."""

    limits: PoolLimits
    time_limits: TimeLimits = TimeLimits(total=120.0)  # noqa: RUF009 - frozen
    """Limits of every request; a request can shorten them."""
    queue_size: int = 32
    recycling: Recycling = field(default_factory=Recycling)
    watchdog: WatchdogLimits = field(default_factory=WatchdogLimits)
    system_prompt: str | None = None
    """For requests without a system prompt; None is Claude Code's preset."""
    models: ModelNames = field(default_factory=ModelNames)
    log_bodies: bool = False
    simulated: bool = False
    stop_before_overage: bool = False
    known_refusals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Fields that the API has refused, by the model's full name."""
    recordings: RecordingLimits = field(default_factory=RecordingLimits)


class _Outcome(Enum):
    """How a request ended."""

    ANSWERED = auto()
    FAILED = auto()
    LEFT = auto()
    """Its caller disconnected."""


class Engine:
    """Serves completions from a pool of warm sessions. Use as an async context manager."""

    # long: creates the parts of the engine and connects their callbacks.
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
        self._capabilities = capabilities
        self._now = now
        self._on_change = on_change
        self._outcomes: Counter[_Outcome] = Counter()
        self._session_sources: Counter[SessionSource] = Counter()
        self._draining = False
        self.pool = Pool(
            self._spawn,
            options.limits,
            queue_size=options.queue_size,
            clock=clock,
            recycling=options.recycling,
            on_change=on_change,
        )
        self._watchdog = Watchdog(self.pool.sessions, options.watchdog, options.recycling)
        self.account = AccountState(on_change, self._on_facts, self._ask_again)
        self.usage_limits = UsageLimitsState(
            OveragePolicy(options.stop_before_overage),
            now,
            self.pool.announce,
            account=AccountFile(launcher.environment).id,
            on_other_account=self.account.relearn,
        )
        self._answers = Answers(
            self._answered, self.refused, options.recordings, clock=clock, now=now
        )
        builtin_tools = launcher.builtin_tools is not None
        self.resources = Resources(
            self.pool,
            Planner(
                options.system_prompt,
                builtin_tools,
                launcher.longest_variable,
                known_refusals=options.known_refusals,
            ),
            SchemaChecker(launcher.guard),
            self.account,
            self.usage_limits,
            ParkingPolicy(),
            quotas or Quotas(),
            Bills(self._booked),
            options.time_limits,
            clock,
        )

    @property
    def launcher(self) -> Launcher:
        """How its processes are started."""
        return self._launcher

    async def start(self) -> None:
        """Start the first process, then the others. Raises what `Session.spawn` raises."""
        await self._start_first()
        self.pool.start()
        self._watchdog.start()

    async def aclose(self) -> None:
        """End every process, whatever it is doing."""
        self.usage_limits.close()
        self._draining = True
        await self.account.aclose()
        await self._watchdog.aclose()
        await self.resources.schemas.aclose()
        await self.pool.aclose()
        self.resources.bills.close()
        await self._answers.aclose()

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

    def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; close the generator to cancel it."""
        return self._answers.complete(request)

    async def detach(
        self, request: CompletionRequest, on_end: OnEnd | None = None
    ) -> DetachedAnswer:
        """Start an answer that goes on without its client; returns once it is admitted."""
        return await self._answers.detach(request, on_end)

    def attach(self, owner: str, id: str) -> DetachedAnswer:
        """Return a detached answer; raises NotFoundError."""
        return self._answers.attach(owner, id)

    async def cancel(self, owner: str, id: str) -> None:
        """Cancel a running request, detached or not; raises NotFoundError."""
        await self._answers.cancel(owner, id)

    async def forget(self, owner: str, id: str) -> bool:
        """Cancel a detached answer and keep it no longer; False if there is none."""
        return await self._answers.forget(owner, id)

    async def _answered(
        self, request: CompletionRequest, admitted: Callable[[], None]
    ) -> AsyncGenerator[Event, None]:
        """Answer a request and record it; calls `admitted` once it waits for a process."""
        clock = self.resources.clock
        record = RequestRecord(
            request, clock(), bodies=self._options.log_bodies, started_on=self._now()
        )
        self._observer.began(record)
        bill = self.resources.bills.open(record)
        try:
            # Before it counts: an invalid request does not count towards its key's limits.
            request = await off_loop(is_large(request), validate, request)
            with self.resources.quotas.admitted(request.caller) as meter:
                completion = Completion(request, record, self.resources, bill, admitted)
                try:
                    async with aclosing(completion.events()) as events:
                        async for event in events:
                            record.see(event, clock())
                            yield event
                finally:
                    record.spent = completion.usage
                    meter.tokens = record.spent.total_tokens
        except BridgeError as error:
            record.error, record.cause = error.reason, error.for_log
            raise
        except (asyncio.CancelledError, GeneratorExit):
            record.error = record.error or ("" if record.finished else "CLIENT_CLOSED")
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
            with self.resources.quotas.admitted(request.caller):
                return await count_tokens(request, self.resources)
        except BridgeError as error:
            self.refused(request, error)
            raise

    def refused(self, request: CompletionRequest, error: Exception) -> None:
        """Record a request that a front end could not decode, as far as it is known."""
        record = RequestRecord(request, self.resources.clock(), started_on=self._now())
        self._observer.began(record)
        record.error = error.reason if isinstance(error, BridgeError) else "INTERNAL"
        self._ended(self.resources.bills.open(record))

    def _booked(self, record: RequestRecord) -> None:
        self.resources.quotas.charge(record.request.caller, record.cost.usd)
        self._observer.booked(record)

    async def booked(self) -> None:
        """Wait until the cost of all requests so far is known, as far as it will be."""
        await self.resources.bills.booked()

    def _ended(self, bill: RequestBill) -> None:
        record = bill.record
        record.ended(self.resources.clock(), self._now())
        record.billed = self.account.billed
        catalog = self.resources.planner.catalog
        record.offered_model = catalog.offered(record.model or record.request.model)
        if not record.error:
            self._outcomes[_Outcome.ANSWERED] += 1
        else:
            left = record.error == "CLIENT_CLOSED"
            self._outcomes[_Outcome.LEFT if left else _Outcome.FAILED] += 1
        if record.session_source:
            self._session_sources[record.session_source] += 1
        self.pool.announce()
        self._observer.ended(record)
        bill.end()

    async def models(self, caller: str = "") -> tuple[Model, ...]:
        """List the models on offer that a caller may use."""
        await self.account.known()
        return self._catalog(caller).models

    async def model(self, name: str, caller: str = "") -> Model:
        """Return one model that a caller may use; raises ModelNotFoundError."""
        await self.account.known()
        return self._catalog(caller).find(name)

    def _catalog(self, caller: str) -> Catalog:
        resources = self.resources
        return resources.planner.catalog.limited_to(resources.quotas.limits_of(caller).models)

    def allowances(self, caller: str) -> Allowances:
        """Return what a key may use now."""
        return self.resources.quotas.allowances(caller)

    def health(self) -> Health:
        """Return whether completions work now."""
        account = self.account
        status, detail = status_of(
            account.facts,
            draining=self._draining,
            usable=self.pool.usable,
            trouble=self.pool.trouble,
            login_accepted=account.login_accepted,
            login_trouble=account.login_trouble,
            overage_ahead=self.usage_limits.overage_ahead,
        )
        return Health(
            status=status,
            logged_in=account.logged_in,
            account="simulated" if self._options.simulated else account.account,
            cli_version=account.cli_version,
            subscription=account.subscription,
            simulated=self._options.simulated,
            pool_size=self._options.limits.pool_size,
            processes=self.pool.counts(),
            waiting=self.pool.waiting,
            detail=detail,
            lacking=self._capabilities.lacking,
        )

    def pool_state(self) -> PoolState:
        """Return the current state of the pool."""
        counts = self.pool.totals
        totals = Totals(
            answered=self._outcomes[_Outcome.ANSWERED],
            failed=self._outcomes[_Outcome.FAILED],
            left=self._outcomes[_Outcome.LEFT],
            sessions={str(source): n for source, n in self._session_sources.items()},
            processes_started=counts.started,
            processes_ended=counts.ended,
            processes_replaced={str(reason): n for reason, n in counts.replaced.items()},
        )
        limits = self._options.limits
        return PoolState(self.health(), limits.max_processes, totals, self.usage_limits.latest)

    def refusals(self) -> dict[str, frozenset[str]]:
        """Return the fields that the API has refused, by the model's full name."""
        return self.resources.planner.refusals()

    async def watch_pool(self) -> AsyncGenerator[PoolState, None]:
        """Yield the state of the pool now and after each change, without end."""
        last: PoolState | None = None
        while True:
            state = self.pool_state()
            if state != last:
                last = state
                yield state
            else:
                await self.pool.changed()

    async def drain(self) -> None:
        """Refuse new requests and wait for the running ones."""
        self._draining = True
        self._on_change()
        await self.pool.drain()
        await self._answers.finished()
        await self.resources.bills.booked()

    # Start

    async def _spawn(self) -> Session:
        session = await Session.spawn(self._launcher, capabilities=self._capabilities)
        session.on_usage_limits = self.usage_limits.note
        return session

    async def _start_first(self) -> None:
        """Find out from a first process which models and which account the CLI has.

        Raises what `Session.spawn` raises.
        """
        session = await self._first_session()
        if self.account.account == "none" and self._launcher.has_api_key:
            # No login, but an API key of the operator's, which is then billed.
            await session.close()
            self._launcher = dataclasses.replace(self._launcher, use_api_key=True)
            session = await self._first_session()
        self.pool.adopt(session)

    async def _ask_again(self) -> None:
        """Find out the same from a separate process, which serves no requests."""
        session = await self._first_session()
        await session.close()

    async def _first_session(self) -> Session:
        session = await self._spawn()
        try:
            await session.initialise(Profile(self._options.system_prompt))
        except BaseException:
            await session.close()
            raise
        self.account.learn(session.facts)
        return session

    def _on_facts(self, facts: Facts) -> None:
        names = self._options.models
        self.resources.planner.catalog = Catalog.from_cli(
            facts.models, aliases=dict(names.aliases), refuse_unknown=names.refuse_unknown
        )
        for sentence in self.resources.planner.catalog.wrong_aliases():
            logger.warning("%s", sentence)
