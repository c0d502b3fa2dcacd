"""How a server is reached, and with which key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from bridge.client.asking import ChatError

if TYPE_CHECKING:
    import grpc

IS_IT_RUNNING = "Is `bridge serve` running?"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """The HTTP door of a server."""

    url: str
    """Without /v1."""

    def __str__(self) -> str:
        return self.url

    def client(self, api_key: str | None) -> httpx.Client:
        """Make a client of it, which waits without end for the next part of an answer."""
        # The server has its own limit for an answer, and a model may think for long.
        timeout = httpx.Timeout(10.0, read=None)
        return httpx.Client(timeout=timeout, headers=dict(_bearer(api_key)))


@dataclass(frozen=True, slots=True)
class GrpcAddress:
    """The gRPC door of a server."""

    target: str
    """Such as 127.0.0.1:50051."""

    def __str__(self) -> str:
        return self.target

    def channel(self) -> grpc.Channel:
        """Open a channel to it."""
        import grpc

        # 32 MiB is what the server takes and sends.
        size = 32 * 1024 * 1024
        options = [
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
        ]
        return grpc.insecure_channel(self.target, options=options)

    def metadata(self, api_key: str | None) -> tuple[tuple[str, str], ...]:
        """What goes with each call."""
        return _bearer(api_key)


def _bearer(api_key: str | None) -> tuple[tuple[str, str], ...]:
    if not api_key:
        return ()
    if not (api_key.isascii() and api_key.isprintable()):
        raise ChatError("The key holds characters that no key has. Is it copied whole?")
    return (("authorization", f"Bearer {api_key}"),)
