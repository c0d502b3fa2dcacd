"""Starts and ends the parts in the right order, on one event loop.

Start: the simulator (in a demo), the sockets, the doors, the engine. End: refuse what is new, let
running answers finish, end the others with every process, close the doors, then the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from bridge import __version__
from bridge.core.access import USAGE_FILE, Access, KeyFileError, Quotas
from bridge.core.answers import ResponseStore, SqliteResponseStore
from bridge.core.claude import (
    NOTHING,
    Capabilities,
    Launcher,
    hermetic_environment,
    read_user_settings,
)
from bridge.core.contract import BOUNDS
from bridge.core.engine import Engine, EngineOptions, ModelNames, TimeLimits
from bridge.core.pool import PoolLimits
from bridge.core.system import OrphanGuard, UnixSocketError, is_loopback
from bridge.core.telemetry import (
    Metrics,
    Observer,
    Observers,
    RecentRequests,
    Rotation,
    SessionLog,
    cli_environment,
    start_tracing,
)
from bridge.grpc_server.server import GrpcServer, tls_credentials
from bridge.http_server import HttpSettings, all_dialects, connections, create_app
from bridge.probe import ProbeError, capabilities_of, fallbacks, missing, probe, report_for
from bridge.server.addresses import (
    Address,
    Listener,
    ListenError,
    Plan,
    Tcp,
    Unix,
    listen_http,
    plan_listening,
)
from bridge.server.refusals import read_refusals
from bridge.server.settings import Settings
from bridge.server.tls import Tls, read_tls

if TYPE_CHECKING:
    from bridge.simulator import Simulator

logger = logging.getLogger(__name__)

RESPONSES = "responses.sqlite3"
MAX_REQUEST_BYTES = BOUNDS.request_bytes
"""The largest request that either door takes."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Which doors are served, and whether the simulator stands in for the model."""

    http: bool = True
    grpc: bool = True
    demo: bool = False


class StartError(Exception):
    """The server cannot start. The text says why and what to do."""


class _HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the supervisor has them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Bridge:
    """A bridge that serves. Made by `serving`."""

    def __init__(
        self,
        engine: Engine,
        doors: Doors,
        simulator: Simulator | None,
        access: Access,
        log: SessionLog,
        metrics: Metrics,
    ) -> None:
        self.engine = engine
        self.access = access
        self.log = log
        self.metrics = metrics
        self.doors = doors
        self.simulator = simulator
        self.http_address: Address | None = None
        self.grpc_address: Address | None = None
        self.tls: Tls | None = None

    @property
    def http_port(self) -> int:
        """The port of the HTTP door; 0 where it is not served on one."""
        return self.http_address.port if isinstance(self.http_address, Tcp) else 0

    @property
    def grpc_port(self) -> int:
        """The port of the gRPC door; 0 where it is not served on one."""
        return self.grpc_address.port if isinstance(self.grpc_address, Tcp) else 0

    async def drain(self, seconds: float) -> None:
        """Refuse new requests and give the running ones time to finish."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.engine.drain()


@asynccontextmanager
async def serving(
    settings: Settings,
    doors: Doors,
    capabilities: Capabilities | None = None,
    say: Callable[[str], None] = logger.info,
) -> AsyncIterator[Bridge]:
    """Serve until the block ends; raises StartError where that cannot begin.

    With `capabilities` given, the CLI is not asked what it can do. `say` is told what takes long.
    """
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(OrphanGuard())
        access = access_of(settings)
        plan, tls, listener = _listen(settings, doors, access)
        if listener is not None:
            stack.callback(listener.close)
        simulator = await _simulator(stack) if doors.demo else None
        cli = bundled_cli()
        if capabilities is None:
            capabilities = await _abilities(cli, settings, guard, say)
        log = SessionLog(settings.session_log_path, _rotation(settings))
        stack.callback(log.close)
        metrics = Metrics()
        tracing = start_tracing(os.environ, say)
        recent = RecentRequests()
        observers: list[Observer] = [metrics, log, recent]
        launcher = make_launcher(cli, settings, simulator, guard, stack)
        if tracing is not None:
            observers.append(tracing)
            stack.callback(tracing.close)
            launcher = replace(launcher, telemetry=cli_environment(os.environ))
        health_changed = asyncio.Event()
        engine = Engine(
            launcher,
            _options(settings, demo=doors.demo),
            Observers(observers),
            capabilities=capabilities,
            quotas=Quotas(access.limits_of, settings.bridge_state_dir / USAGE_FILE),
            on_change=health_changed.set,
        )
        metrics.watch(engine)
        access.on_revoked = engine.pool.forget
        await stack.enter_async_context(access.following())
        bridge = Bridge(engine, doors, simulator, access, log, metrics)
        bridge.tls = tls
        if plan.grpc is not None:
            bridge.grpc_address = await _serve_grpc(
                bridge, settings, plan.grpc, recent, stack, health_changed
            )
        if listener is not None:
            bridge.http_address = listener.address
            await _serve_http(bridge, settings, listener, recent, stack)
        # Closed before the doors: answers that still run end in an error that they pass on.
        stack.push_async_callback(engine.aclose)
        try:
            await engine.start()
        except Exception as error:
            logger.exception("the first Claude Code process did not start")
            raise _not_started(error) from error
        yield bridge


def access_of(settings: Settings) -> Access:
    """The keys; raises StartError where they cannot be read."""
    if settings.bridge_keys_file is not None and not settings.bridge_keys_file.exists():
        # One that was named and is not there must not mean that everyone may come in.
        raise StartError(
            f"BRIDGE_KEYS_FILE names {settings.bridge_keys_file}, which is not there. "
            "Make a key with `bridge keys add NAME`."
        )
    try:
        return Access(settings.bridge_api_keys, settings.keys_file)
    except KeyFileError as error:
        raise StartError(str(error)) from error


async def _abilities(
    cli: Path, settings: Settings, guard: OrphanGuard, say: Callable[[str], None]
) -> Capabilities:
    """What this CLI can do, found out if it is not known yet.

    Raises StartError where the CLI lacks what the bridge cannot do without.
    """
    try:
        report = await report_for(
            cli, settings.bridge_state_dir, probing=partial(probe, guard=guard), say=say
        )
    except (ProbeError, OSError) as error:
        logger.exception("what Claude Code can do could not be found out")
        raise _not_started(error) from error
    lacking = missing(report)
    if lacking:
        raise StartError(
            f"This Claude Code ({report.cli_version or 'of unknown version'}) does not do what "
            "the bridge relies on:\n"
            + "".join(f"  - {sentence}\n" for sentence in lacking)
            + "Install the version of claude-agent-sdk that this bridge was made for."
        )
    for fallback in fallbacks(report):
        logger.warning("this Claude Code lacks %s", fallback)
    logger.info(
        "Claude Code %s does %d of the %d things looked for",
        report.cli_version,
        sum(report.found.values()),
        len(report.found),
    )
    return capabilities_of(report)


def _not_started(error: Exception) -> StartError:
    return StartError(
        f"Claude Code could not be started: {type(error).__name__}. Run `claude` by hand to see "
        "whether it works on this machine."
    )


async def _simulator(stack: AsyncExitStack) -> Simulator:
    # Only a demo pays for importing it.
    from bridge.simulator import Simulator

    return await stack.enter_async_context(Simulator())


def bundled_cli() -> Path:
    """The CLI that the SDK brings; raises StartError where it brings none."""
    spec = find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        raise StartError("claude-agent-sdk is not installed.")
    cli = Path(spec.origin).parent / "_bundled" / "claude"
    if not cli.is_file():
        raise StartError("This build of claude-agent-sdk brings no claude CLI for your platform.")
    return cli


def make_launcher(
    cli: Path,
    settings: Settings,
    simulator: Simulator | None,
    guard: OrphanGuard,
    stack: AsyncExitStack,
) -> Launcher:
    """What starts the processes, in a folder that is removed with the stack."""
    folder = Path(
        stack.enter_context(
            # A process that is just ending may still write into it.
            tempfile.TemporaryDirectory(prefix="claude-code-bridge-", ignore_cleanup_errors=True)
        )
    )
    if simulator is not None:
        home = folder / "home"
        home.mkdir()
        work = folder / "work"
        work.mkdir()
        return Launcher(
            cli,
            hermetic_environment(os.environ, home, simulator.base_url),
            work,
            builtin_tools=settings.builtin_tools(),
            guard=guard,
        )
    sources = settings.bridge_setting_sources
    user_settings = read_user_settings(os.environ) if "user" in sources else NOTHING
    return Launcher(
        cli,
        {**os.environ, **user_settings.environment},
        folder,
        setting_sources=tuple(source for source in sources if source != "user"),
        user_settings=user_settings,
        use_api_key=settings.bridge_use_api_key,
        builtin_tools=settings.builtin_tools(),
        guard=guard,
    )


def _options(settings: Settings, *, demo: bool) -> EngineOptions:
    return EngineOptions(
        limits=PoolLimits(
            settings.pool_size,
            settings.max_processes,
            settings.bridge_spares,
            park_seconds=settings.bridge_park_seconds,
        ),
        time_limits=TimeLimits(
            total=settings.claude_timeout,
            queue=settings.bridge_queue_timeout or math.inf,
            first_token=settings.bridge_first_token_timeout or math.inf,
            idle=settings.bridge_idle_timeout or math.inf,
        ),
        queue_size=settings.bridge_queue_size,
        system_prompt=settings.system_prompt(),
        models=ModelNames(
            aliases=settings.bridge_model_aliases,
            refuse_unknown=settings.bridge_unknown_model == "error",
        ),
        log_bodies=settings.bridge_session_log == "full",
        simulated=demo,
        stop_before_overage=settings.bridge_stop_before_overage,
        known_refusals={} if demo else read_refusals(settings.bridge_state_dir),
    )


def _rotation(settings: Settings) -> Rotation:
    max_bytes = round(settings.bridge_session_log_megabytes * 1024 * 1024)
    return Rotation(max_bytes, settings.bridge_session_log_files)


def response_store(settings: Settings) -> ResponseStore | None:
    """Where responses are kept; None where that is turned off."""
    if settings.bridge_responses_days == 0:
        return None
    return SqliteResponseStore(
        settings.bridge_state_dir / RESPONSES,
        days=settings.bridge_responses_days,
        max_bytes=settings.bridge_responses_megabytes * 1024 * 1024,
    )


def _listen(
    settings: Settings, doors: Doors, access: Access
) -> tuple[Plan, Tls | None, Listener | None]:
    """Decide where to listen, and open the HTTP door's socket; raises StartError."""
    try:
        plan = plan_listening(settings, http=doors.http, grpc=doors.grpc, has_keys=access.required)
        tls = read_tls(plan.tls) if plan.tls is not None else None
        return plan, tls, listen_http(plan.http) if plan.http is not None else None
    except ListenError as error:
        raise StartError(str(error)) from error


async def _serve_grpc(
    bridge: Bridge,
    settings: Settings,
    address: Address,
    recent: RecentRequests,
    stack: AsyncExitStack,
    health_changed: asyncio.Event,
) -> Address:
    """Serve gRPC; returns the address with the port that was got. Raises StartError."""
    tls = bridge.tls
    server = GrpcServer(
        bridge.engine,
        host=settings.host,
        port=settings.grpc_port,
        uds=address.path if isinstance(address, Unix) else None,
        max_message_bytes=MAX_REQUEST_BYTES,
        credentials=None if tls is None else tls_credentials(tls.cert, tls.key, tls.client_ca),
        client_certificates=tls is not None and tls.client_ca is not None,
        access=bridge.access,
        allowed_origins=settings.bridge_allowed_origins,
        recent=recent.lines,
    )
    try:
        port = await server.start()
    except OSError as error:
        raise StartError(f"The gRPC door cannot listen: {error.strerror or error}") from error
    except UnixSocketError as error:
        raise StartError(f"BRIDGE_GRPC_UDS: {error}") from error
    stack.push_async_callback(server.stop)
    forget = bridge.access.on_revoked

    def revoked(name: str) -> None:
        forget(name)
        server.keys_changed()

    bridge.access.on_revoked = revoked

    async def follow_health() -> None:
        while True:
            await health_changed.wait()
            health_changed.clear()
            await server.refresh_health()

    follower = asyncio.create_task(follow_health())
    stack.callback(follower.cancel)
    return replace(address, port=port) if isinstance(address, Tcp) else address


async def _serve_http(
    bridge: Bridge,
    settings: Settings,
    listener: Listener,
    recent: RecentRequests,
    stack: AsyncExitStack,
) -> None:
    tls = bridge.tls
    door = HttpSettings(
        strict=settings.bridge_strict,
        max_body_bytes=MAX_REQUEST_BYTES,
        idle_connection_seconds=settings.bridge_http_keep_alive,
        grpc="" if bridge.grpc_address is None else str(bridge.grpc_address),
        # Whoever gives it another name has others come by it, through a proxy for one.
        public=not is_loopback(settings.host) or bool(settings.bridge_allowed_hosts),
        allowed_hosts=(settings.host.lower(), *settings.bridge_allowed_hosts),
        allowed_origins=settings.bridge_allowed_origins,
    )
    store = response_store(settings)
    if store is not None:
        stack.push_async_callback(store.aclose)
        await store.expire()
    dialects = all_dialects(store)
    app = create_app(
        bridge.engine,
        dialects,
        version=__version__,
        settings=door,
        access=bridge.access,
        metrics=bridge.metrics.render,
        recent=recent.lines,
    )
    server = _HttpServer(
        uvicorn.Config(
            app,
            http=connections(door, dialects),
            lifespan="off",
            # Answered by the app like any other request, whichever packages are installed.
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            # What is left after the drain is ended by closing the engine.
            timeout_graceful_shutdown=5,
            ssl_context_factory=None if tls is None else lambda config, default: tls.context,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener.socket]))

    async def end() -> None:
        if listener.file is not None:
            # While it is open, no other can look like it.
            listener.file.remove()
        server.should_exit = True
        await task

    stack.push_async_callback(end)
