"""How a server is reached, and with which key."""

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
GIVE_KEY = "Give it with --api-key or BRIDGE_API_KEY."

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The HTTP door of a server."""

    url: str
    """Without /v1."""
    uds: Path | None = None
    """The Unix socket to go by."""
    cert: Path | None = None
    """The certificate that the server must show, whatever names are in it. None is any for the
    URL's host that this machine trusts."""

    def __str__(self) -> str:
        return self.url if self.uds is None else f"unix:{self.uds}"

    def client(self, api_key: str | None) -> httpx.Client:
        """Make a client of it, which waits without end for the next part of an answer."""
        transport: httpx.BaseTransport | None = None
        if self.uds is not None or self.cert is not None:
            transport = httpx.HTTPTransport(
                verify=True if self.cert is None else _own_context(self.cert),
                uds=None if self.uds is None else str(self.uds),
            )
        return httpx.Client(
            # The server has its own limit for an answer, and a model may think for long.
            timeout=httpx.Timeout(_CONNECT_SECONDS, read=None),
            headers=dict(_bearer(api_key)),
            transport=transport,
        )


@dataclass(frozen=True, slots=True)
class GrpcAddress:
    """The gRPC door of a server."""

    address: Address | str
    """A place of this machine's, or a target such as 127.0.0.1:50051."""
    cert: Path | None = None
    """The certificate that the server must show; None is no TLS."""

    def __str__(self) -> str:
        return str(self.address)

    def channel(self) -> grpc.Channel:
        """Open a channel to it; raises ChatError where the certificate cannot be used."""
        import grpc

        # 32 MiB is what the server takes and sends.
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
        """What goes with each call."""
        return _bearer(api_key)


def target_of(address: Address | str) -> str:
    """An address as gRPC writes it."""
    if isinstance(address, Unix):
        return f"unix:{quote(os.fsencode(address.path))}"
    return str(address)


def certified_name(address: Address | str, cert: Path) -> str:
    """A name in the server's certificate: gRPC wants one, and this may be none of the address's.

    Raises OSError where the server cannot be reached, or shows another certificate.
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
        raise ChatError("The key holds characters that no key has. Is it copied whole?")
    return (("authorization", f"Bearer {api_key}"),)
