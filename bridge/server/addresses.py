"""Decides where both APIs listen, before any socket is opened."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from bridge.core.system import UnixSocket, UnixSocketError, is_loopback, make_unix_socket

if TYPE_CHECKING:
    from bridge.server.settings import Settings

_BACKLOG: Final = 512
_ANY: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""The loopback address of a server that listens on every address."""


class ListenError(Exception):
    """The server must not or cannot listen there. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Tcp:
    """A port of a host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address: TypeAlias = Tcp | Unix


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate with its chain, its key, and the CA of client certificates."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each API listens; None if it is not served."""

    http: Address | None
    grpc: Address | None
    tls: TlsFiles | None = None
    """TLS of both APIs; None is plain text."""


def http_api_url(address: Address, *, tls: bool) -> str:
    """The base URL of the HTTP API, as printed."""
    scheme = "https" if tls else "http"
    if isinstance(address, Unix):
        return f"{address} ({scheme})"
    return f"{scheme}://{address}/v1"


def local_url(address: Address, *, tls: bool) -> str:
    """The HTTP API's URL without /v1, for a client on this machine."""
    scheme = "https" if tls else "http"
    host = "localhost" if isinstance(address, Unix) else local_address(address)
    return f"{scheme}://{host}"


def local_address(address: Address) -> Address:
    """The address at which a client on this machine reaches a listener."""
    if isinstance(address, Unix):
        return address
    return Tcp(_ANY.get(address.host, address.host), address.port)


def http_address(settings: Settings) -> Address:
    """Where the HTTP API listens."""
    if settings.bridge_uds is not None:
        return Unix(_absolute(settings.bridge_uds))
    return Tcp(settings.host, settings.port)


def grpc_address(settings: Settings) -> Address:
    """Where the gRPC API listens."""
    if settings.bridge_grpc_uds is not None:
        return Unix(_absolute(settings.bridge_grpc_uds))
    return Tcp(settings.host, settings.grpc_port)


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def addresses_of(host: str) -> tuple[str, ...]:
    """Look up the numeric addresses of a host to listen on.

    Raises ListenError if there are none.
    """
    try:
        found = socket.getaddrinfo(
            host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise ListenError(
            f"The host {host!r} has no address. Set HOST or --host to another one."
        ) from None
    return tuple(str(sockaddr[0]) for *_, sockaddr in found)


def plan_listening(
    settings: Settings,
    *,
    http: bool,
    grpc: bool,
    has_keys: bool,
    resolve: Callable[[str], Iterable[str]] = addresses_of,
) -> Plan:
    """Decide where both APIs listen; raises ListenError if they must not.

    A port that other machines can reach requires keys or, for gRPC, client certificates.
    """
    plan = Plan(
        http_address(settings) if http else None,
        grpc_address(settings) if grpc else None,
        _tls_files(settings, grpc=grpc),
    )
    if isinstance(plan.http, Unix) and plan.http == plan.grpc:
        raise ListenError(
            f"BRIDGE_UDS and BRIDGE_GRPC_UDS are both {plan.http.path}: each API needs its own."
        )
    if isinstance(plan.http, Tcp) and plan.http.port and plan.http == plan.grpc:
        raise ListenError(
            f"PORT (--port) and GRPC_PORT (--grpc-port) are both {plan.http.port}: each API needs "
            "its own port. Change one of them."
        )
    if has_keys:
        return plan
    by_certificate = plan.tls is not None and plan.tls.client_ca is not None
    unprotected = (plan.http, None if by_certificate else plan.grpc)
    on_tcp = any(isinstance(address, Tcp) for address in unprotected)
    if on_tcp and not _is_local(settings.host, resolve):
        certificates = ", require client certificates with BRIDGE_TLS_CLIENT_CA" if not http else ""
        raise ListenError(
            f"HOST is {settings.host or 'empty'}, which other machines can reach, but the server "
            "has no keys.\n"
            f"Create one with `bridge keys add NAME --mine`{certificates}, or set HOST to "
            "127.0.0.1."
        )
    return plan


def _is_local(host: str, resolve: Callable[[str], Iterable[str]]) -> bool:
    """Whether only this machine can reach a server on this host."""
    return all(is_loopback(address) for address in resolve(host))


def _tls_files(settings: Settings, *, grpc: bool) -> TlsFiles | None:
    cert, key, client_ca = (
        settings.bridge_tls_cert,
        settings.bridge_tls_key,
        settings.bridge_tls_client_ca,
    )
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        missing = "BRIDGE_TLS_CERT" if cert is None else "BRIDGE_TLS_KEY"
        given = "BRIDGE_TLS_KEY" if key else "BRIDGE_TLS_CERT" if cert else "BRIDGE_TLS_CLIENT_CA"
        raise ListenError(f"{given} is set, but {missing} is not: TLS needs both.")
    if client_ca is not None and not grpc:
        # The operator must not believe that the HTTP API requires certificates.
        raise ListenError(
            "BRIDGE_TLS_CLIENT_CA only applies to the gRPC API, which is not served. Unset it."
        )
    return TlsFiles(cert, key, client_ca)


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and its address."""

    socket: socket.socket
    address: Address
    file: UnixSocket | None = None

    def close(self) -> None:
        """Stop listening, and remove the socket file."""
        if self.file is not None:
            self.file.remove()
        self.socket.close()


def listen_http(address: Address) -> Listener:
    """Listen for HTTP; raises ListenError."""
    match address:
        case Tcp():
            return _listen_tcp(address)
        case Unix(path):
            return _listen_unix(path)


def _listen_tcp(address: Tcp) -> Listener:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listening = socket.create_server(
            (address.host, address.port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        raise ListenError(
            # The error's own text repeats the address.
            f"The HTTP API cannot listen on {address}: {os.strerror(error.errno or 0)}. "
            "Set PORT or --port to a free port."
        ) from error
    # Accepted connections inherit it. asyncio only sets it on sockets created with IPPROTO_TCP;
    # without it the end of every streamed answer waits for an ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Listener(listening, Tcp(address.host, listening.getsockname()[1]))


def _listen_unix(path: Path) -> Listener:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def bind(to: Path) -> None:
        listening.bind(str(to))
        listening.listen(_BACKLOG)

    try:
        file = make_unix_socket(path, bind)
    except BaseException as error:
        listening.close()
        if isinstance(error, UnixSocketError):
            raise ListenError(f"BRIDGE_UDS: {error}") from None
        raise
    return Listener(listening, Unix(path), file)
