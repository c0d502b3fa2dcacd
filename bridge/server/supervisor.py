"""Starts and ends the parts in the right order, on one event loop.

Start: sockets, simulator (in a demo), front ends, engine. Stop: refuse new requests, let running
answers finish, end the rest with every process, close the front ends, then the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bridge.core.access import USAGE_FILE, Access, LocalCounts, Quotas, RedisCounts, Uploads
from bridge.core.answers import CLAIM_SECONDS, Fleet, RedisFleet
from bridge.core.claude import AccountFingerprint, Capabilities, Launcher
from bridge.core.engine import Engine, EngineOptions
from bridge.core.ledger import LEDGER_FILE, Ledger
from bridge.core.payers import (
    Marks,
    Payer,
    Payers,
    PayingEngine,
    SharedMarks,
    Sharing,
    account_warnings,
)
from bridge.core.pool import Budget
from bridge.core.redis import RedisLink
from bridge.core.system import OrphanGuard, is_loopback
from bridge.core.telemetry import (
    HealthLog,
    Metrics,
    Observer,
    Observers,
    RecentRequests,
    Rotation,
    ServerLog,
    SessionLog,
    cli_environment,
    start_tracing,
)
from bridge.server.addresses import Address, Tcp
from bridge.server.changes import Changes
from bridge.server.front_ends import (
    Shared,
    access_of,
    open_listeners,
    redis_link,
    serve_grpc,
    serve_http,
)
from bridge.server.launching import (
    claude_cli,
    cli_capabilities,
    engine_options,
    make_launcher,
    named_payers,
    not_started,
)
from bridge.server.live_tls import LiveTls
from bridge.server.settings import Settings
from bridge.server.tls import Tls

if TYPE_CHECKING:
    from bridge.simulator import Simulator

logger = logging.getLogger(__name__)

DEMO_LEDGER_FILE = f"demo-{LEDGER_FILE}"


@dataclass(frozen=True, slots=True)
class FrontEnds:
    """Which APIs are served, and whether the simulator replaces the model."""

    http: bool = True
    grpc: bool = True
    demo: bool = False


class Bridge:
    """A running bridge, created by `serving`."""

    def __init__(
        self,
        service: Payers,
        front_ends: FrontEnds,
        simulator: Simulator | None,
        access: Access,
        log: SessionLog,
        metrics: Metrics,
    ) -> None:
        self.service = service
        self.access = access
        self.log = log
        self.metrics = metrics
        self.front_ends = front_ends
        self.simulator = simulator
        self.http_address: Address | None = None
        self.grpc_address: Address | None = None
        self.live_tls: LiveTls | None = None
        self.payers: tuple[Payer, ...] = ()
        """The operator's list of payers, as read at the start."""
        self.system_prompt: str | None = None
        """The default of requests without one; None is Claude Code's preset."""

    @property
    def engine(self) -> Engine:
        """The engine of the first payer."""
        return self.service.usual

    @property
    def http_port(self) -> int:
        """The port of the HTTP API; 0 if it is not served on a port."""
        return self.http_address.port if isinstance(self.http_address, Tcp) else 0

    @property
    def grpc_port(self) -> int:
        """The port of the gRPC API; 0 if it is not served on a port."""
        return self.grpc_address.port if isinstance(self.grpc_address, Tcp) else 0

    @property
    def tls(self) -> Tls | None:
        """The TLS files in use; None is plain text."""
        return None if self.live_tls is None else self.live_tls.tls

    def announce_stop(self) -> None:
        """Fail the health checks, so that a balancer sends no more; requests are still served."""
        self.service.announce_stop()

    async def drain(self, seconds: float) -> None:
        """Refuse new requests and give the running ones time to finish."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.service.drain()


# long: the order in which a server starts, of which the end is the reverse.
@asynccontextmanager
async def serving(
    settings: Settings,
    front_ends: FrontEnds,
    say: Callable[[str], None] = logger.info,
) -> AsyncIterator[Bridge]:
    """Serve until the block ends; raises StartError.

    `say` is called with progress messages of slow steps.
    """
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(OrphanGuard())
        redis = await redis_link(settings, stack)
        access = await access_of(settings, redis)
        quotas = await _quotas(settings, access, redis, stack)
        plan, tls, listener = open_listeners(
            settings, access, http=front_ends.http, grpc=front_ends.grpc
        )
        if listener is not None:
            stack.callback(listener.close)
        simulator = await _simulator(stack) if front_ends.demo else None
        cli = claude_cli(settings)
        capabilities = await cli_capabilities(cli, settings, guard, say)
        telemetry = _telemetry(settings, stack, say, demo=front_ends.demo)
        changes = Changes()
        options = engine_options(settings, demo=front_ends.demo)
        fleet = _fleet(settings, redis, stack)
        parts = _Parts(settings, options, capabilities, access, quotas, telemetry, redis, fleet)
        payers = () if front_ends.demo else named_payers(settings)
        launchers = {
            payer: make_launcher(cli, settings, simulator, guard, stack, payer)
            for payer in payers or (None,)
        }
        service = _service(launchers, parts, changes.announce)
        telemetry.metrics.watch(service, settings.replica)
        health_log = HealthLog()
        stack.callback(changes.follow(lambda: health_log.look(service.pool_state())))
        access.on_revoked = service.forget_caller
        access.on_known = changes.announce
        await stack.enter_async_context(access.following())
        bridge = Bridge(service, front_ends, simulator, access, telemetry.log, telemetry.metrics)
        bridge.live_tls = tls
        bridge.payers = payers
        bridge.system_prompt = options.system_prompt
        uploads = Uploads(settings.bridge_upload_megabytes * 1024 * 1024)
        metrics, recent = telemetry.metrics, telemetry.recent
        if redis is not None:
            metrics.watch_redis(lambda: redis.up)
        shared = Shared(
            service, settings, access, uploads, metrics, recent, telemetry.ledger, tls, redis
        )
        if plan.grpc is not None:
            bridge.grpc_address = await serve_grpc(shared, plan.grpc, stack, changes)
        if listener is not None:
            bridge.http_address = listener.address
            await serve_http(shared, listener, bridge.grpc_address, stack)
        # Closed before the front ends, so that these report the error of answers still running.
        stack.push_async_callback(service.aclose)
        try:
            await service.start()
        except Exception as error:
            logger.exception("the first Claude Code process failed to start")
            raise not_started(error) from error
        if not front_ends.demo:
            _warn(settings, access, service)
        yield bridge


@dataclass(frozen=True, slots=True)
class _Parts:
    """What all engines are built from."""

    settings: Settings
    options: EngineOptions
    capabilities: Capabilities
    access: Access
    quotas: Quotas
    telemetry: _Telemetry
    redis: RedisLink | None
    fleet: Fleet | None


def _service(
    launchers: Mapping[Payer | None, Launcher], parts: _Parts, on_change: Callable[[], None]
) -> Payers:
    """An engine for each payer, behind one service."""
    settings, access, options = parts.settings, parts.access, parts.options
    quotas = parts.quotas
    parts.telemetry.metrics.watch_budgets(lambda: quotas.all_budget_shares(access.keys))
    budget = Budget(options.limits) if len(launchers) > 1 else None
    engines: list[PayingEngine] = []
    for payer, launcher in launchers.items():
        if engines:
            # They were found out with the first payer's account.
            options = replace(options, known_refusals={})
        if parts.telemetry.traced:
            launcher = replace(launcher, telemetry=cli_environment(os.environ))
        engine = Engine(
            launcher,
            options,
            # Requests pass the service first, which records them.
            Observers(()),
            capabilities=parts.capabilities,
            quotas=quotas,
            on_change=on_change,
            budget=budget,
        )
        if payer is None:
            engines.append(PayingEngine(engine))
        else:
            engines.append(PayingEngine(engine, payer.name, payer.kind, payer.overflow))
    shared = Sharing(
        quotas,
        access.use_of,
        lambda: access.known,
        settings.bridge_share_login,
        options.recordings,
        options.log_bodies,
        _marks(launchers, parts.redis),
        fleet=parts.fleet,
    )
    return Payers(engines, parts.telemetry.observers, shared)


def _marks(launchers: Mapping[Payer | None, Launcher], redis: RedisLink | None) -> Marks:
    """What is known of the limits of the payers' accounts: in Redis, if there is one."""
    if redis is None:
        return Marks()
    accounts = {
        payer.name: AccountFingerprint(launcher).value
        for payer, launcher in launchers.items()
        if payer is not None
    }
    return SharedMarks(redis, accounts)


def _warn(settings: Settings, access: Access, service: Payers) -> None:
    """Log what the operator should know about who pays for whom."""
    beyond = not is_loopback(settings.host) or bool(settings.bridge_allowed_hosts)
    for sentence in account_warnings(
        service.options,
        access.unmarked,
        share_login=settings.bridge_share_login,
        beyond_loopback=beyond,
    ):
        logger.warning("%s", sentence)


@dataclass(frozen=True, slots=True)
class _Telemetry:
    metrics: Metrics
    log: SessionLog
    recent: RecentRequests
    ledger: Ledger
    observers: Observers
    traced: bool


def _telemetry(
    settings: Settings, stack: AsyncExitStack, say: Callable[[str], None], *, demo: bool
) -> _Telemetry:
    """Open the observers of requests; the stack closes them."""
    log = SessionLog(settings.session_log_path, _rotation(settings), settings.replica)
    stack.callback(log.close)
    metrics, recent = Metrics(settings.bridge_metric_labels), RecentRequests()
    # What a simulated model costs is nobody's.
    ledger = Ledger(settings.bridge_state_dir / (DEMO_LEDGER_FILE if demo else LEDGER_FILE))
    stack.push_async_callback(ledger.aclose)
    observers: list[Observer] = [metrics, log, recent, ledger, ServerLog()]
    tracing = start_tracing(os.environ, say, settings.replica)
    if tracing is not None:
        observers.append(tracing)
        stack.callback(tracing.close)
    return _Telemetry(metrics, log, recent, ledger, Observers(observers), tracing is not None)


def _fleet(settings: Settings, redis: RedisLink | None, stack: AsyncExitStack) -> RedisFleet | None:
    """The other servers, if there are any."""
    if redis is None:
        return None
    fleet = RedisFleet(redis, settings.replica, claim_seconds=CLAIM_SECONDS)
    stack.push_async_callback(fleet.aclose)
    fleet.start()
    return fleet


async def _quotas(
    settings: Settings, access: Access, redis: RedisLink | None, stack: AsyncExitStack
) -> Quotas:
    """What counts the requests of each key: in Redis, if there is one."""
    own = LocalCounts(settings.bridge_state_dir / USAGE_FILE)
    counts = own if redis is None else RedisCounts(redis, own)
    await stack.enter_async_context(counts.counting())
    return Quotas(access.limits_of, counts)


async def _simulator(stack: AsyncExitStack) -> Simulator:
    # Slow to import, and only a demo needs it.
    from bridge.simulator import Simulator

    return await stack.enter_async_context(Simulator())


def _rotation(settings: Settings) -> Rotation:
    max_bytes = round(settings.bridge_session_log_megabytes * 1024 * 1024)
    return Rotation(max_bytes, settings.bridge_session_log_files)
