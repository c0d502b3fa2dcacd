"""How the commands that ask a running server find it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from bridge.cli.common import local_grpc_server, local_server

if TYPE_CHECKING:
    from bridge.client import Client, GrpcClient

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(help="The server; with --grpc HOST:PORT. Default: this machine, by its settings."),
]
Key: TypeAlias = Annotated[
    str | None,
    typer.Option(envvar="BRIDGE_API_KEY", help="The server's key, where it asks for one."),
]
ByGrpc: TypeAlias = Annotated[bool, typer.Option("--grpc", help="By gRPC instead of HTTP.")]


def client_of(url: str | None, api_key: str | None, *, by_grpc: bool) -> Client:
    """A client of the server; raises ChatError for a key that is none."""
    if by_grpc:
        return grpc_client_of(url, api_key)
    from bridge.client import HttpClient, ServerAddress

    return HttpClient(ServerAddress(base_of(url)) if url else local_server(), api_key)


def base_of(url: str) -> str:
    """The URL of a server, which may be given as OpenAI's clients want it, with /v1.

    Raises ChatError where the scheme is missing.
    """
    if not url.startswith(("http://", "https://")):
        from bridge.client import ChatError

        raise ChatError(f"--url {url} is no URL: write http://{url}, or https:// with TLS.")
    return url.rstrip("/").removesuffix("/v1")


def grpc_client_of(target: str | None, api_key: str | None) -> GrpcClient:
    """A client of its gRPC door; raises ChatError for a key that is none."""
    from bridge.client import GrpcAddress, GrpcClient

    if target and target.startswith(("http://", "https://")):
        from bridge.client import ChatError

        raise ChatError(f"--url {target} is no gRPC door: write HOST:PORT, without http://.")
    return GrpcClient(GrpcAddress(target) if target else local_grpc_server(), api_key)
