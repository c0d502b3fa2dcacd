"""Starts and ends the parts in the right order, on one event loop.

Start: the simulator (in a demo), the sockets, the doors, the engine. End: refuse what is new, let
running answers finish, end the others with every process, close the doors, then the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from bridge import __version__
from bridge.core.abilities import Abilities
from bridge.core.engine import Engine, EngineOptions
from bridge.core.launch import Launcher, hermetic_environment
from bridge.core.pool_policy import Limits
from bridge.core.recording import SessionLog
from bridge.grpc_server.server import GrpcServer
from bridge.http_server.app import HttpSettings, create_app
from bridge.http_server.store import ResponseStore
from bridge.probe import ProbeError, abilities_of, fallbacks, missing, report_for
from bridge.settings import Settings

if TYPE_CHECKING:
    from bridge.simulator import Simulator

logger = logging.getLogger(__name__)

SESSION_LOG = "sessions.jsonl"
RESPONSES = "responses.sqlite3"
MAX_REQUEST_BYTES = 32 * 1024 * 1024
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

    def __init__(self, engine: Engine, doors: Doors, simulator: Simulator | None) -> None:
        self.engine = engine
        self.doors = doors
        self.simulator = simulator
        self.http_port = 0
        self.grpc_port = 0

    async def drain(self, seconds: float) -> None:
        """Refuse new requests and give the running ones time to finish."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.engine.drain()


@asynccontextmanager
async def serving(
    settings: Settings,
    doors: Doors,
    abilities: Abilities | None = None,
    say: Callable[[str], None] = logger.info,
) -> AsyncIterator[Bridge]:
    """Serve until the block ends; raises StartError where that cannot begin.

    With `abilities` given, the CLI is not asked what it can do. `say` is told what takes long.
    """
    async with AsyncExitStack() as stack:
        simulator = await _simulator(stack) if doors.demo else None
        listener = _bind(settings) if doors.http else None
        if listener is not None:
            stack.callback(listener.close)
        cli = bundled_cli()
        if abilities is None:
            abilities = await _abilities(cli, settings, say)
        log = SessionLog(_log_path(settings))
        stack.callback(log.close)
        health_changed = asyncio.Event()
        engine = Engine(
            _launcher(cli, settings, simulator, stack),
            _options(settings, demo=doors.demo),
            log,
            abilities=abilities,
            on_change=health_changed.set,
        )
        bridge = Bridge(engine, doors, simulator)
        if doors.grpc:
            bridge.grpc_port = await _serve_grpc(bridge, settings, stack, health_changed)
        if listener is not None:
            bridge.http_port = await _serve_http(bridge, settings, listener, stack)
        # Closed before the doors: answers that still run end in an error that they pass on.
        stack.push_async_callback(engine.aclose)
        try:
            await engine.start()
        except Exception as error:
            logger.exception("the first Claude Code process did not start")
            raise _not_started(error) from error
        yield bridge


async def _abilities(cli: Path, settings: Settings, say: Callable[[str], None]) -> Abilities:
    """What this CLI can do, found out if it is not known yet.

    Raises StartError where the CLI lacks what the bridge cannot do without.
    """
    try:
        report = await report_for(cli, settings.bridge_state_dir, say=say)
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
    return abilities_of(report)


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


def _launcher(
    cli: Path, settings: Settings, simulator: Simulator | None, stack: AsyncExitStack
) -> Launcher:
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
        return Launcher(cli, hermetic_environment(os.environ, home, simulator.base_url), work)
    return Launcher(
        cli,
        dict(os.environ),
        folder,
        setting_sources=settings.bridge_setting_sources,
        use_api_key=settings.bridge_use_api_key,
    )


def _options(settings: Settings, *, demo: bool) -> EngineOptions:
    return EngineOptions(
        limits=Limits(
            settings.pool_size,
            settings.max_processes,
            settings.bridge_spares,
            park_seconds=settings.bridge_park_seconds,
        ),
        timeout=settings.claude_timeout,
        queue_size=settings.bridge_queue_size,
        system_prompt=settings.system_prompt(),
        aliases=settings.bridge_model_aliases,
        refuse_unknown_models=settings.bridge_unknown_model == "error",
        log_bodies=settings.bridge_session_log == "full",
        simulated=demo,
    )


def _log_path(settings: Settings) -> Path | None:
    if settings.bridge_session_log == "off":
        return None
    return settings.bridge_state_dir / SESSION_LOG


def response_store(settings: Settings) -> ResponseStore | None:
    """Where responses are kept; None where that is turned off."""
    if settings.bridge_responses_days == 0:
        return None
    return ResponseStore(
        settings.bridge_state_dir / RESPONSES,
        days=settings.bridge_responses_days,
        max_bytes=settings.bridge_responses_megabytes * 1024 * 1024,
    )


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=512)
        # Accepted connections inherit it. asyncio would set it only on sockets made with
        # IPPROTO_TCP, and without it the end of every streamed answer waits for an ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise StartError(
            f"The HTTP door cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            "Set PORT or --port to a free one."
        ) from error


async def _serve_grpc(
    bridge: Bridge, settings: Settings, stack: AsyncExitStack, health_changed: asyncio.Event
) -> int:
    server = GrpcServer(
        bridge.engine,
        host=settings.host,
        port=settings.grpc_port,
        max_message_bytes=MAX_REQUEST_BYTES,
    )
    try:
        port = await server.start()
    except OSError as error:
        raise StartError(f"The gRPC door cannot listen: {error}") from error
    stack.push_async_callback(server.stop)

    async def follow_health() -> None:
        while True:
            await health_changed.wait()
            health_changed.clear()
            await server.refresh_health()

    follower = asyncio.create_task(follow_health())
    stack.callback(follower.cancel)
    return port


async def _serve_http(
    bridge: Bridge, settings: Settings, listener: socket.socket, stack: AsyncExitStack
) -> int:
    store = response_store(settings)
    if store is not None:
        stack.push_async_callback(store.aclose)
        await store.expire()
    app = create_app(
        bridge.engine,
        version=__version__,
        store=store,
        settings=HttpSettings(strict=settings.bridge_strict, max_body_bytes=MAX_REQUEST_BYTES),
    )
    server = _HttpServer(
        uvicorn.Config(
            app,
            lifespan="off",
            # Answered by the app like any other request, whichever packages are installed.
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            # What is left after the drain is ended by closing the engine.
            timeout_graceful_shutdown=5,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))

    async def end() -> None:
        server.should_exit = True
        await task

    stack.push_async_callback(end)
    port: int = listener.getsockname()[1]
    return port
