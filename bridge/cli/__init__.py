"""The commands: `bridge serve | doctor | chat | models | pool | logs | usage | protos | keys |
payers | login | version`.

Options and output only. Each command imports what is slow to import when it runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bridge import __version__
from bridge.cli.accounts import login, payers
from bridge.cli.chat import chat
from bridge.cli.doctor import doctor
from bridge.cli.keys import keys
from bridge.cli.logs import logs
from bridge.cli.models import models
from bridge.cli.pool import pool
from bridge.cli.protos import protos
from bridge.cli.serve import serve
from bridge.cli.usage import usage

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (serve, doctor, chat, models, pool, logs, usage, protos, login):
    app.command()(command)
app.add_typer(keys, name="keys")
app.add_typer(payers, name="payers")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _version_and_exit(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version_and_exit, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Serve OpenAI's and Anthropic's API, and gRPC, from your own Claude subscription."""


def main() -> None:
    """Entry point of `bridge`."""
    app()


def serve_main() -> None:
    """Entry point of `claude-code-bridge`: the same as `bridge serve`."""
    typer.run(serve)
