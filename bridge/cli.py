"""The commands: `bridge serve | chat | models | version`, and `claude-code-bridge`.

Thin: options and printing. What takes long to import is imported by the command that needs it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from bridge import __version__

if TYPE_CHECKING:
    from bridge.settings import Settings
    from bridge.supervisor import Bridge, Doors

app = typer.Typer(
    help="OpenAI's API and gRPC on your own Claude subscription.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The command `bridge`."""
    app()


def serve_main() -> None:
    """The command `claude-code-bridge`: the same as `bridge serve`."""
    typer.run(serve)


@app.command()
def serve(
    http: Annotated[bool, typer.Option("--http", help="Serve OpenAI's API.")] = False,
    grpc: Annotated[bool, typer.Option("--grpc", help="Serve gRPC.")] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Let a built-in simulated model answer.")
    ] = False,
    try_it: Annotated[
        bool, typer.Option("--try", help="Send one completion through each door at the start.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="Address to listen on. HOST")] = None,
    port: Annotated[int | None, typer.Option(help="Port for HTTP. PORT")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port for gRPC. GRPC_PORT")] = None,
    pool_size: Annotated[int | None, typer.Option(help="Turns at once. POOL_SIZE")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for a whole request. CLAUDE_TIMEOUT")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Serve both doors, or only those named."""
    given = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "pool_size": pool_size,
        "claude_timeout": timeout,
    }
    settings = _settings({name: value for name, value in given.items() if value is not None})
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # The SDK reports the end of each process as an error, also of those that are just closed.
    logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)
    from bridge.supervisor import Doors, StartError

    both = not (http or grpc)
    doors = Doors(http=http or both, grpc=grpc or both, demo=demo)
    try:
        asyncio.run(_serve(settings, doors, try_it=try_it))
    except StartError as error:
        _fail(str(error))


async def _serve(settings: Settings, doors: Doors, *, try_it: bool) -> None:
    from bridge.supervisor import serving

    task = asyncio.current_task()
    assert task is not None
    # While it starts, a signal ends the start.
    _on_signals(task.cancel)
    async with AsyncExitStack() as stack:
        try:
            bridge = await stack.enter_async_context(serving(settings, doors, say=_say))
        except asyncio.CancelledError:
            _say("stopped before it had started")
            return
        # From here on it is an event, so that what runs is ended in order.
        stop = asyncio.Event()
        _on_signals(stop.set)
        _announce(bridge, settings)
        if try_it:
            from bridge.tour import take_tour

            ports = bridge.http_port, bridge.grpc_port
            await _until(stop, lambda: take_tour(settings.host, *ports))
        await _until(stop, lambda: _warm(bridge))
        await stop.wait()
        stop.clear()
        _say("stopping: running answers may finish; press Ctrl-C again to end at once")
        await _until(stop, lambda: bridge.drain(settings.bridge_drain_seconds))


def _on_signals(act: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, act)


async def _until(stop: asyncio.Event, work: Callable[[], Any]) -> None:
    """Do the work, unless a stop signal comes before its end."""
    doing = asyncio.ensure_future(work())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not doing.done():
        doing.cancel()
        await asyncio.wait((doing,))
    elif doing.exception() is not None:
        await doing


async def _warm(bridge: Bridge) -> None:
    unready = ("starting", "preparing", "resetting", "closing")
    pool = bridge.engine.pool
    await pool.wait_for(lambda counts: not any(counts[state] for state in unready))
    count = sum(pool.counts().values())
    _say(f"{count} Claude Code {'process is' if count == 1 else 'processes are'} warm")


def _announce(bridge: Bridge, settings: Settings) -> None:
    health = bridge.engine.health()
    _say(f"claude-code-bridge {__version__}")
    if bridge.doors.http:
        _say(f"  HTTP     http://{settings.host}:{bridge.http_port}/v1")
    if bridge.doors.grpc:
        _say(f"  gRPC     {settings.host}:{bridge.grpc_port}")
    _say(f"  CLI      Claude Code {health.cli_version}")
    if health.simulated:
        _say("  account  none: a simulated model answers (--demo)")
    elif health.logged_in:
        _say(f"  account  {health.account} pays for every answer")
    else:
        _say("  account  NOT LOGGED IN: run `claude` and type /login, or set")
        _say("           CLAUDE_CODE_OAUTH_TOKEN (from `claude setup-token`). To look around")
        _say("           without an account: bridge serve --demo")
    _say(f"  pool     {health.pool_size} turns at once (POOL_SIZE)")


@app.command()
def chat(
    prompt: Annotated[str, typer.Argument(help="What to say.")],
    model: Annotated[str, typer.Option(help="The model to ask.")] = "default",
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    url: Annotated[
        str | None, typer.Option(help="The server. Default: this machine, PORT.")
    ] = None,
) -> None:
    """Ask the running server and print the answer as it comes."""
    from bridge.client import ChatError, stream_chat

    try:
        for text in stream_chat(url or _local_url(), prompt, model=model, system=system):
            sys.stdout.write(text)
            sys.stdout.flush()
    except ChatError as error:
        _fail(str(error))
    sys.stdout.write("\n")


@app.command()
def models(
    url: Annotated[
        str | None, typer.Option(help="The server. Default: this machine, PORT.")
    ] = None,
) -> None:
    """List the models that the running server offers."""
    from bridge.client import ChatError, list_models

    try:
        for name in list_models(url or _local_url()):
            typer.echo(name)
    except ChatError as error:
        _fail(str(error))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _local_url() -> str:
    settings = _settings({})
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _settings(given: dict[str, Any]) -> Settings:
    from pydantic import ValidationError

    from bridge.settings import Settings

    try:
        return Settings(**given)
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            message = problem["msg"].removeprefix("Value error, ")
            typer.echo(f"{name}: {message}" if name else message, err=True)
        raise typer.Exit(2) from None


def _say(text: str) -> None:
    typer.echo(text)
    sys.stdout.flush()


def _fail(message: str) -> NoReturn:
    typer.echo(f"bridge: {message}", err=True)
    raise typer.Exit(1)
