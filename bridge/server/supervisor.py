"""Starts and ends the parts in the right order, on one event loop.

Start: the simulator (in a demo), the sockets, the doors, the engine. End: refuse what is new, let
running answers finish, end the others with every process, close the doors, then the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bridge.core.access import USAGE_FILE, Access, Quotas, Uploads
from bridge.core.engine import Engine
from bridge.core.system import OrphanGuard
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
    serve_grpc,
    serve_http,
)
from bridge.server.launching import (
    abilities_of,
    claude_cli,
    engine_options,
    make_launcher,
    not_started,
)
from bridge.server.live_tls import LiveTls
from bridge.server.settings import Settings
from bridge.server.tls import Tls

if TYPE_CHECKING:
    from bridge.simulator import Simulator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Doors:
    """Which doors are served, and whether the simulator stands in for the model."""

    http: bool = True
    grpc: bool = True
    demo: bool = False


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
        self.live_tls: LiveTls | None = None
        self.system_prompt: str | None = None
        """What a request without one gets; None is Claude Code's preset."""

    @property
    def http_port(self) -> int:
        """The port of the HTTP door; 0 where it is not served on one."""
        return self.http_address.port if isinstance(self.http_address, Tcp) else 0

    @property
    def grpc_port(self) -> int:
        """The port of the gRPC door; 0 where it is not served on one."""
        return self.grpc_address.port if isinstance(self.grpc_address, Tcp) else 0

    @property
    def tls(self) -> Tls | None:
        """What both servers speak TLS with now; None is plain text."""
        return None if self.live_tls is None else self.live_tls.tls

    async def drain(self, seconds: float) -> None:
        """Refuse new requests and give the running ones time to finish."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.engine.drain()


# long: the order in which a server starts, of which the end is the reverse.
@asynccontextmanager
async def serving(
    settings: Settings,
    doors: Doors,
    say: Callable[[str], None] = logger.info,
) -> AsyncIterator[Bridge]:
    """Serve until the block ends; raises StartError where that cannot begin.

    `say` is called with what takes long.
    """
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(OrphanGuard())
        access = access_of(settings)
        plan, tls, listener = open_listeners(settings, access, http=doors.http, grpc=doors.grpc)
        if listener is not None:
            stack.callback(listener.close)
        simulator = await _simulator(stack) if doors.demo else None
        cli = claude_cli(settings)
        capabilities = await abilities_of(cli, settings, guard, say)
        telemetry = _telemetry(settings, stack, say)
        launcher = make_launcher(cli, settings, simulator, guard, stack)
        if telemetry.traced:
            launcher = replace(launcher, telemetry=cli_environment(os.environ))
        changes = Changes()
        options = engine_options(settings, demo=doors.demo)
        engine = Engine(
            launcher,
            options,
            telemetry.observers,
            capabilities=capabilities,
            quotas=Quotas(access.limits_of, settings.bridge_state_dir / USAGE_FILE),
            on_change=changes.announce,
        )
        telemetry.metrics.watch(engine)
        health_log = HealthLog()
        stack.callback(changes.follow(lambda: health_log.look(engine.pool_state())))
        access.on_revoked = engine.pool.forget
        await stack.enter_async_context(access.following())
        bridge = Bridge(engine, doors, simulator, access, telemetry.log, telemetry.metrics)
        bridge.live_tls = tls
        bridge.system_prompt = options.system_prompt
        uploads = Uploads(settings.bridge_upload_megabytes * 1024 * 1024)
        shared = Shared(engine, settings, access, uploads, telemetry.metrics, telemetry.recent, tls)
        if plan.grpc is not None:
            bridge.grpc_address = await serve_grpc(shared, plan.grpc, stack, changes)
        if listener is not None:
            bridge.http_address = listener.address
            await serve_http(shared, listener, bridge.grpc_address, stack)
        # Closed before the doors: answers that still run end in an error that they pass on.
        stack.push_async_callback(engine.aclose)
        try:
            await engine.start()
        except Exception as error:
            logger.exception("the first Claude Code process did not start")
            raise not_started(error) from error
        yield bridge


@dataclass(frozen=True, slots=True)
class _Telemetry:
    metrics: Metrics
    log: SessionLog
    recent: RecentRequests
    observers: Observers
    traced: bool


def _telemetry(settings: Settings, stack: AsyncExitStack, say: Callable[[str], None]) -> _Telemetry:
    """Open what records the requests, until the stack is closed."""
    log = SessionLog(settings.session_log_path, _rotation(settings))
    stack.callback(log.close)
    metrics, recent = Metrics(), RecentRequests()
    observers: list[Observer] = [metrics, log, recent, ServerLog()]
    tracing = start_tracing(os.environ, say)
    if tracing is not None:
        observers.append(tracing)
        stack.callback(tracing.close)
    return _Telemetry(metrics, log, recent, Observers(observers), tracing is not None)


async def _simulator(stack: AsyncExitStack) -> Simulator:
    # Only a demo pays for importing it.
    from bridge.simulator import Simulator

    return await stack.enter_async_context(Simulator())


def _rotation(settings: Settings) -> Rotation:
    max_bytes = round(settings.bridge_session_log_megabytes * 1024 * 1024)
    return Rotation(max_bytes, settings.bridge_session_log_files)
