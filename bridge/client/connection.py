"""Connections to a server, and the key that they send."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from bridge.client.asking import ChatError
from bridge.server import Address, ListenError, Unix, first_certificate, own_client_context

if TYPE_CHECKING:
    import grpc

IS_IT_RUNNING = "Is `bridge serve` running?"
GIVE_KEY = "Set it with --api-key or BRIDGE_API_KEY."

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The HTTP API of a server."""

    url: str
    """Without /v1."""
    uds: Path | None = None
    """The Unix socket to connect to."""
    cert: Path | None = None
    """The certificate that the server must present, whatever its names. None accepts any that this
    machine trusts for the URL's host."""

    def __str__(self) -> str:
        return self.url if self.uds is None else f"unix:{self.uds}"

    def client(self, api_key: str | None) -> httpx.Client:
        """Create a client without a read timeout."""
        transport: httpx.BaseTransport | None = None
        if self.uds is not None or self.cert is not None:
            transport = httpx.HTTPTransport(
                verify=True if self.cert is None else _own_context(self.cert),
                uds=None if self.uds is None else str(self.uds),
            )
        return httpx.Client(
            # The server limits the time of an answer, and a model may think for long.
            timeout=httpx.Timeout(_CONNECT_SECONDS, read=None),
            headers=dict(_bearer(api_key)),
            transport=transport,
        )


@dataclass(frozen=True, slots=True)
class GrpcAddress:
    """The gRPC API of a server."""

    address: Address | str
    """A local address, or a target such as 127.0.0.1:50051."""
    cert: Path | None = None
    """The certificate that the server must present; None is no TLS."""

    def __str__(self) -> str:
        return str(self.address)

    def channel(self) -> grpc.Channel:
        """Open a channel; raises ChatError if the certificate cannot be used."""
        import grpc

        # 32 MiB, the server's own limit.
        size = 32 * 1024 * 1024
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
        ]
        target = target_of(self.address)
        if self.cert is None:
            return grpc.insecure_channel(target, options=options)
        credentials, name = self._trust(self.cert)
        options.append(("grpc.ssl_target_name_override", name))
        return grpc.secure_channel(target, credentials, options=options)

    def _trust(self, cert: Path) -> tuple[grpc.ChannelCredentials, str]:
        import grpc

        try:
            name = certified_name(self.address, cert)
        except ListenError as error:
            raise ChatError(str(error)) from error
        except OSError as error:
            raise ChatError(f"No answer from {self} ({error}). {IS_IT_RUNNING}") from error
        return grpc.ssl_channel_credentials(first_certificate(cert.read_bytes())), name

    def metadata(self, api_key: str | None) -> tuple[tuple[str, str], ...]:
        """The metadata of each call."""
        return _bearer(api_key)


def target_of(address: Address | str) -> str:
    """An address in gRPC syntax."""
    if isinstance(address, Unix):
        return f"unix:{quote(os.fsencode(address.path))}"
    return str(address)


def certified_name(address: Address | str, cert: Path) -> str:
    """A name in the server's certificate. gRPC needs one, and it may differ from the address.

    Raises OSError if the server cannot be reached or presents another certificate.
    """
    context = own_client_context(cert)
    with _connected(address) as plain, context.wrap_socket(plain) as wrapped:
        shown: dict[str, Any] = dict(wrapped.getpeercert() or {})
    names = [value for _, value in shown.get("subjectAltName", ())]
    subject = [value for part in shown.get("subject", ()) for _, value in part]
    return str((names + subject)[0])


def _connected(address: Address | str) -> socket.socket:
    if isinstance(address, Unix):
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.settimeout(_CONNECT_SECONDS)
        plain.connect(os.fspath(address.path))
        return plain
    host, _, port = str(address).rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS)


def _own_context(cert: Path) -> ssl.SSLContext:
    try:
        return own_client_context(cert)
    except ListenError as error:
        raise ChatError(str(error)) from error


def _bearer(api_key: str | None) -> tuple[tuple[str, str], ...]:
    if not api_key:
        return ()
    if not (api_key.isascii() and api_key.isprintable()):
        raise ChatError("The API key contains characters that no key has. Was it copied correctly?")
    return (("authorization", f"Bearer {api_key}"),)
