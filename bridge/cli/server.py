"""How client commands find the running server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from bridge.cli.common import local_grpc_server, local_server

if TYPE_CHECKING:
    from bridge.client import Client, GrpcClient

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Server URL; HOST:PORT with --grpc. Default: the local server's settings."),
]
Key: TypeAlias = Annotated[
    str | None,
    typer.Option(envvar="BRIDGE_API_KEY", help="API key, if the server requires one."),
]
ByGrpc: TypeAlias = Annotated[bool, typer.Option("--grpc", help="Use gRPC instead of HTTP.")]


def client_of(url: str | None, api_key: str | None, *, by_grpc: bool) -> Client:
    """A client of the server; raises ChatError for a malformed URL or key."""
    if by_grpc:
        return grpc_client_of(url, api_key)
    from bridge.client import HttpClient, ServerAddress

    return HttpClient(ServerAddress(base_of(url)) if url else local_server(), api_key)


def base_of(url: str) -> str:
    """The base URL of a server. A trailing /v1, as OpenAI's clients need it, is removed.

    Raises ChatError if the scheme is missing.
    """
    if not url.startswith(("http://", "https://")):
        from bridge.client import ChatError

        raise ChatError(f"--url {url} has no scheme: use http://{url}, or https:// with TLS.")
    return url.rstrip("/").removesuffix("/v1")


def grpc_client_of(target: str | None, api_key: str | None) -> GrpcClient:
    """A client of its gRPC API; raises ChatError for a malformed address or key."""
    from bridge.client import GrpcAddress, GrpcClient

    if target and target.startswith(("http://", "https://")):
        from bridge.client import ChatError

        raise ChatError(f"--url {target} is not a gRPC address: use HOST:PORT, without http://.")
    return GrpcClient(GrpcAddress(target) if target else local_grpc_server(), api_key)
