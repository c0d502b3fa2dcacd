"""What several commands share: the settings, and how things are said."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from bridge.client import GrpcAddress, ServerAddress
    from bridge.server import Settings


def local_server() -> ServerAddress:
    """Where a server of this machine and this environment listens for HTTP."""
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
    """Where it listens for gRPC."""
    from bridge.client import GrpcAddress
    from bridge.server import grpc_address, local_address

    settings = settings_from({})
    return GrpcAddress(local_address(grpc_address(settings)), cert=settings.bridge_tls_cert)


def settings_from(given: dict[str, Any]) -> Settings:
    """Read the settings; what is wrong with them is printed, and ends the command."""
    from pydantic import ValidationError

    from bridge.server import Settings, wrong_values

    try:
        return Settings(**given)
    except ValidationError as error:
        for line in wrong_values(error):
            typer.echo(f"bridge: {printable(line)}", err=True)
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


def fail(message: str) -> NoReturn:
    """End the command with one line that says why."""
    typer.echo(f"bridge: {printable(message)}", err=True)
    raise typer.Exit(1)
