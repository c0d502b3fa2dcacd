"""`bridge serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge import __version__
from bridge.cli.background import BackgroundHandler, BackgroundWriter
from bridge.cli.common import fail, settings_from
from bridge.cli.hangup import Terminal

if TYPE_CHECKING:
    from bridge.server import Bridge, FrontEnds, Settings

FILES = 4_096
"""Open file descriptors that the server may need, with the usual number of connections."""
OTHER_FILES = 1_024
"""Those of them that are no connections."""


logger = logging.getLogger(__name__)

# Read as text: an invalid number gets the same error message as its variable.
_N = "NUMBER"


# long: Typer takes each option as a parameter.
def serve(
    http: Annotated[
        bool, typer.Option("--http", help="Serve OpenAI's and Anthropic's API.")
    ] = False,
    grpc: Annotated[bool, typer.Option("--grpc", help="Serve gRPC.")] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Answer with a built-in simulated model.")
    ] = False,
    try_it: Annotated[
        bool, typer.Option("--try", help="Send one completion through each API after the start.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="Address to listen on. HOST")] = None,
    port: Annotated[str | None, typer.Option(metavar=_N, help="Port for HTTP. PORT")] = None,
    grpc_port: Annotated[
        str | None, typer.Option(metavar=_N, help="Port for gRPC. GRPC_PORT")
    ] = None,
    uds: Annotated[
        Path | None, typer.Option(help="Unix socket for HTTP, instead of a port. BRIDGE_UDS")
    ] = None,
    grpc_uds: Annotated[
        Path | None, typer.Option(help="Unix socket for gRPC. BRIDGE_GRPC_UDS")
    ] = None,
    pool_size: Annotated[
        str | None, typer.Option(metavar=_N, help="Concurrent turns. POOL_SIZE")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar=_N, help="Seconds to the first token. CLAUDE_TIMEOUT")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log everything. BRIDGE_LOG_LEVEL=debug")
    ] = False,
) -> None:
    """Serve the HTTP API and the gRPC API, or only the ones named."""
    given = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "bridge_uds": uds,
        "bridge_grpc_uds": grpc_uds,
        "pool_size": pool_size,
        "claude_timeout": timeout,
    }
    if verbose:
        given["bridge_log_level"] = "debug"
    settings = settings_from({name: value for name, value in given.items() if value is not None})
    from bridge.core.telemetry import on_loop_error, on_unraisable
    from bridge.server import FrontEnds, StartError, unknown_variables

    sys.unraisablehook = on_unraisable
    # The SDK logs the exit of each process as an error, even if it was closed on purpose.
    logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)

    _allow_files(settings)
    both = not (http or grpc)
    front_ends = FrontEnds(http=http or both, grpc=grpc or both, demo=demo)
    try:
        with closing(BackgroundWriter(1)) as out, closing(BackgroundWriter(2)) as err:
            _log_to(err, settings)
            for line in unknown_variables(os.environ):
                logger.warning("%s", line)
            with asyncio.Runner() as runner:
                runner.get_loop().set_exception_handler(on_loop_error)
                runner.run(_serve(settings, front_ends, out, try_it=try_it))
    except StartError as error:
        fail(str(error))


def _allow_files(settings: Settings) -> None:
    """Raise the limit of open files to what the connections of both APIs may need.

    Some systems default to 256: fewer than the connections of the HTTP API alone.
    """
    connections = settings.bridge_http_max_connections + settings.bridge_grpc_max_connections
    needed = max(FILES, connections + OTHER_FILES)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _log_to(err: BackgroundWriter, settings: Settings) -> None:
    from bridge.core.telemetry import JsonFormatter, TextFormatter

    log = BackgroundHandler(err)
    log.setFormatter(JsonFormatter() if settings.bridge_log_format == "json" else TextFormatter())
    # Below that, libraries log only their own internals.
    logging.basicConfig(level=logging.WARNING, handlers=[log])
    logging.getLogger("bridge").setLevel(settings.bridge_log_level.upper())


async def _serve(
    settings: Settings, front_ends: FrontEnds, out: BackgroundWriter, *, try_it: bool
) -> None:
    from bridge.core.system import freeze_garbage
    from bridge.server import reload, serving

    # In JSON format the output is read by programs: every line is a log record.
    server_log = logging.getLogger("bridge.server")
    say = (
        out.line
        if settings.bridge_log_format == "text"
        else lambda text: server_log.info("%s", text.strip())
    )
    task = asyncio.current_task()
    assert task is not None
    async with AsyncExitStack() as stack:
        terminal = stack.enter_context(Terminal())
        # During the start, a signal aborts it.
        _on_signals(task.cancel)
        _on_hangup(terminal, task.cancel)
        try:
            bridge = await stack.enter_async_context(serving(settings, front_ends, say=say))
        except asyncio.CancelledError:
            say("stopped before the start was complete")
            return
        # From here on a signal sets an event, so that the shutdown is orderly.
        stop = asyncio.Event()
        _on_signals(stop.set)
        _on_hangup(terminal, stop.set, lambda: reload(bridge, settings))
        freeze_garbage()
        _announce(bridge, say)
        if try_it:
            from bridge.cli.tour import take_tour

            with bridge.access.temporary_key("tour") as key:
                addresses = bridge.http_address, bridge.grpc_address
                await _until(stop, lambda: take_tour(*addresses, bridge.tls, key, out.write))
        await _until(stop, lambda: _warm(bridge, say))
        await stop.wait()
        stop.clear()
        # A shell forwards the SIGHUP of its terminal, so it arrives twice: the second one does not
        # ask to stop at once.
        _on_hangup(terminal, lambda: None)
        await _drain(bridge, settings, stop, say)


async def _drain(
    bridge: Bridge, settings: Settings, stop: asyncio.Event, say: Callable[[str], None]
) -> None:
    """Stop serving in order; each further signal ends what is being waited for."""
    if delay := settings.bridge_drain_delay:
        bridge.announce_stop()
        say(f"stopping: refusing requests in {delay:g} seconds; press Ctrl-C again to do so now")
        await _until(stop, lambda: asyncio.sleep(delay))
        stop.clear()
    say("stopping: waiting for running answers; press Ctrl-C again to stop at once")
    await _until(stop, lambda: bridge.drain(settings.bridge_drain_seconds))


def _on_signals(act: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, act)


def _on_hangup(
    terminal: Terminal,
    on_gone: Callable[[], object],
    on_reload: Callable[[], object] = lambda: None,
) -> None:
    def act() -> None:
        if terminal.gone:
            on_gone()
        else:
            on_reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, act)


async def _until(stop: asyncio.Event, work: Callable[[], Any]) -> None:
    """Do the work; a stop signal cancels it."""
    doing = asyncio.ensure_future(work())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not doing.done():
        doing.cancel()
        await asyncio.wait((doing,))
    elif doing.exception() is not None:
        await doing


async def _warm(bridge: Bridge, say: Callable[[str], None]) -> None:
    unready = ("starting", "preparing", "resetting", "closing")
    count = 0
    for engine in bridge.service.engines:
        await engine.pool.wait_for(lambda counts: not any(counts[state] for state in unready))
        count += sum(engine.pool.counts().values())
    say(f"{count} Claude Code {'process is' if count == 1 else 'processes are'} warm")


def _announce_payers(bridge: Bridge, say: Callable[[str], None]) -> None:
    state = bridge.service.pool_state()
    for payer in state.payers:
        account = payer.health.account if payer.health.logged_in else "NOT LOGGED IN (bridge login)"
        whose = "serves you only" if payer.kind.subscription else "billed"
        say(f"  payer    {payer.name}: {payer.kind}, {account}, {whose}")
    if state.payers:
        return
    if state.health.simulated:
        say("  account  none: simulated model (--demo)")
    elif state.health.logged_in:
        say(f"  account  {state.health.account} pays for every answer")
    else:
        say("  account  NOT LOGGED IN: run `bridge login`, or set CLAUDE_CODE_OAUTH_TOKEN (from")
        say("           `bridge login --token`). To try it without an account: bridge serve --demo")


def _announce(bridge: Bridge, say: Callable[[str], None]) -> None:
    from bridge.server import CLIENT_KEY, http_api_url

    health = bridge.service.health()
    say(f"claude-code-bridge {__version__}")
    tls = bridge.tls
    if bridge.http_address is not None:
        say(f"  HTTP     {http_api_url(bridge.http_address, tls=tls is not None)}")
    if bridge.grpc_address is not None:
        demands = ", client certificates required" if tls is not None and tls.client_ca else ""
        say(f"  gRPC     {bridge.grpc_address}{f' (TLS{demands})' if tls else ''}")
    if not bridge.access.known:
        say("  keys     not known yet: Redis is unavailable (docs/redis.md)")
    elif bridge.access.required:
        say(f"  keys     required; {len(bridge.access.keys)} configured (bridge keys list)")
    else:
        say("  keys     none: every client that can connect may use it")
        say("           (bridge keys add NAME --mine)")
        if os.environ.get(CLIENT_KEY):
            say(f"           {CLIENT_KEY} is only sent by clients such as `bridge chat`; the")
            say("           server's keys are set in BRIDGE_API_KEYS")
    say(f"  CLI      Claude Code {health.cli_version}")
    _announce_payers(bridge, say)
    if (tools := bridge.engine.launcher.builtin_tools) is not None:
        say(f"  tools    Claude Code's built-in tools, for every caller, in {tools.folder}")
        for line in tools.described():
            say(f"           {line}")
        say("           everything else is denied")
    say(f"  pool     {health.pool_size} concurrent turns (POOL_SIZE)")
