"""What several commands share: the settings, and how things are said."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from bridge.settings import Settings


def local_url() -> str:
    """Where a server of this machine and this environment listens for HTTP."""
    settings = settings_from({})
    return f"http://{_reachable(settings.host)}:{settings.port}"


def local_target() -> str:
    """Where it listens for gRPC."""
    settings = settings_from({})
    return f"{_reachable(settings.host)}:{settings.grpc_port}"


def _reachable(host: str) -> str:
    # A server that listens on every address is found on this machine's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def settings_from(given: dict[str, Any]) -> Settings:
    """Read the settings; what is wrong with them is printed, and ends the command."""
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


def printable(text: str) -> str:
    """Text from elsewhere, without what would steer the terminal."""
    return text.translate(_CONTROLS)


# All of C0 and C1 but the tab and the ends of lines.
_CONTROLS = {
    code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in ("\t", "\n")
}


def table_width() -> int | None:
    """How wide a table may be: as the terminal is, or wide enough where it goes elsewhere."""
    return None if sys.stdout.isatty() else 200


def say(text: str) -> None:
    """Print a line at once."""
    typer.echo(text)
    sys.stdout.flush()


def fail(message: str) -> NoReturn:
    """End the command with one line that says why."""
    typer.echo(f"bridge: {message}", err=True)
    raise typer.Exit(1)
