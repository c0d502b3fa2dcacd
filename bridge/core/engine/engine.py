"""The engine: serves completions from a pool of warm sessions."""

# long: the face of the core, one method for each thing that a front end or the payers ask.
from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field

from bridge.core.access import Quotas
from bridge.core.answers import RecordingLimits
from bridge.core.claude import (
    ALL,
    AccountFile,
    Capabilities,
    ControlError,
    Facts,
    Launcher,
    LoginFiles,
    ProcessGoneError,
    Profile,
    Session,
)
from bridge.core.contract import (
    Allowances,
    CompletionRequest,
    Health,
    HealthStatus,
    Model,
    PoolState,
)
from bridge.core.engine.completion import Completion
from bridge.core.engine.counting import count_tokens
from bridge.core.engine.health import AccountState, may_be_subscription, status_of
from bridge.core.engine.login_watch import LoginWatch, Verdict, ask_api
from bridge.core.engine.parking_policy import ParkingPolicy
from bridge.core.engine.planning import Catalog, ModelNames, Planner
from bridge.core.engine.resources import Resources
from bridge.core.engine.schema_checker import SchemaChecker
from bridge.core.engine.timeouts import TimeLimits
from bridge.core.engine.usage_limits import AtLimit, OveragePolicy, UsageLimitsState
from bridge.core.intake import RequestBill, Requests, ServesRequests
from bridge.core.pool import Budget, Pool, PoolLimits, Recycling, Watchdog, WatchdogLimits
from bridge.core.telemetry import Observer, RequestRecord, kind_of

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
    at_limit: AtLimit = AtLimit.UNHEALTHY
    known_refusals: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Fields that the API has refused, by the model's full name."""
    recordings: RecordingLimits = field(default_factory=RecordingLimits)


class Engine(ServesRequests):
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
        budget: Budget | None = None,
    ) -> None:
        """`budget` is that of several engines with the same limits; None is an own one."""
        self._launcher = launcher
        self._options = options
        self._capabilities = capabilities
        self._now = now
        self._draining = False
        self._asking_plan: asyncio.Task[None] | None = None
        self.pool = Pool(
            self._spawn,
            options.limits,
            queue_size=options.queue_size,
            clock=clock,
            recycling=options.recycling,
            on_change=on_change,
            budget=budget,
        )
        self._watchdog = Watchdog(self.pool.sessions, options.watchdog, options.recycling)
        self.account = AccountState(self._account_changed, self._on_facts, self._ask_again)
        self._login_watch = LoginWatch(
            self.account, self._ask_api, LoginFiles(launcher.environment).state
        )
        self.usage_limits = UsageLimitsState(
            OveragePolicy(options.stop_before_overage),
            now,
            self.pool.announce,
            account=AccountFile(launcher.environment).id,
            on_other_account=self.account.relearn,
        )
        quotas = quotas or Quotas()
        self._requests = Requests(
            self,
            observer,
            quotas,
            options.recordings,
            log_bodies=options.log_bodies,
            clock=clock,
            now=now,
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
            quotas,
            options.time_limits,
            clock,
        )

    @property
    def subscription(self) -> bool:
        """Whether a subscription login may pay for its answers, as far as is known."""
        return not self._options.simulated and may_be_subscription(self.account.facts)

    @property
    def launcher(self) -> Launcher:
        """How its processes are started."""
        return self._launcher

    async def start(self) -> None:
        """Start the first process, then the others. Raises what `Session.spawn` raises."""
        session = await self._start_first()
        self._asking_plan = asyncio.create_task(self._ask_plan(session))
        self.pool.start()
        self._watchdog.start()

    async def aclose(self) -> None:
        """End every process, whatever it is doing."""
        self.usage_limits.close()
        self._draining = True
        await self._login_watch.aclose()
        if self._asking_plan is not None:
            self._asking_plan.cancel()
            await asyncio.wait((self._asking_plan,))
        await self.account.aclose()
        await self._watchdog.aclose()
        await self.resources.schemas.aclose()
        await self.pool.aclose()
        await self._requests.aclose()

    async def __aenter__(self) -> Engine:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Answerer

    def answering(
        self,
        request: CompletionRequest,
        bill: RequestBill,
        admitted: Callable[[], None],
        *,
        since: float | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> Completion:
        """Begin to answer; see `Completion`."""
        resources = self.resources
        return Completion(request, bill.record, resources, bill, admitted, since=since, check=check)

    async def counted(
        self, request: CompletionRequest, check: Callable[[], None] = lambda: None
    ) -> int:
        """Estimate the input tokens of a request; see `count_tokens`."""
        return await count_tokens(request, self.resources, check)

    def offered_model(self, record: RequestRecord) -> str:
        """Return the model that answered, or else the requested one, if it is on offer, or ""."""
        return self.resources.planner.catalog.offered(record.model or record.request.model)

    def billed(self, record: RequestRecord) -> bool:
        """Return whether its account is billed for each token."""
        return self.account.billed

    def announce(self) -> None:
        """Inform watchers that the counts have changed."""
        self.pool.announce()

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

    async def allowances(self, caller: str) -> Allowances:
        """Return what a key may use now."""
        return await self.resources.quotas.allowances(caller)

    def health(self) -> Health:
        """Return whether completions work now."""
        account, limits = self.account, self.usage_limits
        counts = self._options.at_limit is AtLimit.UNHEALTHY
        status, detail = status_of(
            account.facts,
            draining=self._draining,
            usable=self.pool.usable,
            trouble=self.pool.trouble,
            login_accepted=account.login_accepted,
            login_trouble=account.login_trouble,
            overage_ahead=limits.overage_ahead,
            used_up=counts and limits.used_up_until is not None,
        )
        stopped = status in (HealthStatus.OVERAGE_AHEAD, HealthStatus.USAGE_LIMIT)
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
            resets_at=limits.stopped_until if stopped else None,
            lacking=self._capabilities.lacking,
        )

    def pool_state(self) -> PoolState:
        """Return the current state of the pool."""
        counts = self.pool.totals
        totals = dataclasses.replace(
            self._requests.totals(),
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

    def announce_stop(self) -> None:
        """Report that the server stops. Requests are still served until `drain`."""
        self._draining = True
        self.pool.announce()

    async def drain(self) -> None:
        """Refuse new requests and wait for the running ones."""
        self.announce_stop()
        await self.pool.drain()
        await self._requests.finished()

    # Start

    async def _spawn(self) -> Session:
        session = await Session.spawn(self._launcher, capabilities=self._capabilities)
        session.on_usage_limits = self.usage_limits.note
        return session

    async def _start_first(self) -> Session:
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
        return session

    async def _ask_again(self) -> None:
        """Find out the same from a separate process, which serves no requests."""
        session = await self._first_session()
        try:
            await self._ask_plan(session)
        finally:
            await session.close()

    async def _ask_plan(self, session: Session) -> None:
        """Find out the account's usage limits, if Claude Code knows them without an answer."""
        try:
            self.usage_limits.begin_with(await session.usage_limits(self._now()))
        except (ControlError, ProcessGoneError) as error:
            logger.info("the usage limits are known after the first answer: %s", kind_of(error))

    async def plan_asked(self) -> None:
        """Wait until the usage limits are known, if they can be without an answer."""
        if self._asking_plan is not None:
            await asyncio.wait((self._asking_plan,))

    async def _first_session(self) -> Session:
        session = await self._spawn()
        try:
            await session.initialise(Profile(self._options.system_prompt))
        except BaseException:
            await session.close()
            raise
        self.account.learn(session.facts)
        return session

    def _account_changed(self) -> None:
        self._login_watch.look()
        self.pool.announce()

    async def _ask_api(self) -> Verdict:
        """Find out whether the login works, without a request."""
        return await ask_api(self.resources, Profile(self._options.system_prompt))

    def _on_facts(self, facts: Facts) -> None:
        names = self._options.models
        self.resources.planner.catalog = Catalog.from_cli(
            facts.models, aliases=dict(names.aliases), refuse_unknown=names.refuse_unknown
        )
        for sentence in self.resources.planner.catalog.wrong_aliases():
            logger.warning("%s", sentence)
