"""Shared by several commands: reading the settings, and output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from bridge.client import GrpcAddress, ServerAddress
    from bridge.server import Settings


def local_server() -> ServerAddress:
    """The HTTP address of a server started on this machine with this environment."""
    from bridge.client import ServerAddress
    from bridge.server import Unix, http_address, local_url

    settings = settings_from({})
    address, cert = http_address(settings), settings.bridge_tls_cert
    return ServerAddress(
        local_url(address, tls=cert is not None),
        uds=address.path if isinstance(address, Unix) else None,
        cert=cert,
    )


def local_grpc_server() -> GrpcAddress:
    """The gRPC address of the same server."""
    from bridge.client import GrpcAddress
    from bridge.server import grpc_address, local_address

    settings = settings_from({})
    return GrpcAddress(local_address(grpc_address(settings)), cert=settings.bridge_tls_cert)


def settings_from(given: dict[str, Any]) -> Settings:
    """Read the settings; print invalid ones and exit with status 2."""
    from pydantic import ValidationError

    from bridge.server import Settings, wrong_values

    try:
        return Settings(**given)
    except ValidationError as error:
        for line in wrong_values(error):
            typer.echo(f"bridge: {printable(line)}", err=True)
        raise typer.Exit(2) from None


def printable(text: str) -> str:
    """Text from outside the program, without terminal control characters."""
    return text.translate(_CONTROLS)


# C0 and C1 without tab and newline.
_CONTROLS = {
    code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in ("\t", "\n")
}


def table_width() -> int | None:
    """Columns for a table: None for the terminal's own width, 200 if stdout is not a terminal."""
    return None if sys.stdout.isatty() else 200


def fail(message: str) -> NoReturn:
    """Print why the command failed, and exit with status 1."""
    typer.echo(f"bridge: {printable(message)}", err=True)
    raise typer.Exit(1)
