"""The limits of connections: how many, how long, and how they are kept alive. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_METADATA_BYTES: Final = 16 * 1024
"""All headers of a call together."""
NEVER_MS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of the gRPC server's connections; 0 turns an optional one off."""

    max_connections: int = 256
    """Per listening address. Each takes a file descriptor."""
    max_streams: int = 256
    """Open calls of a connection; further ones wait at the client."""
    keepalive_seconds: float = 60
    """After how much silence of a client it is pinged: one whose machine is gone would otherwise
    occupy its process."""
    keepalive_timeout: float = 20
    """How long the answer to such a ping may take."""
    min_ping_seconds: float = 0
    """The least between two pings of a client without the server sending anything in between; 0 is
    any. A model may think for minutes without output, so by default no client is disconnected for
    making sure of the connection."""
    max_age_seconds: float = 0
    """After which age a connection is closed, give or take a tenth; 0 is never. Clients open
    another, so that a balancer distributes them again."""
    max_age_grace_seconds: float = 0
    """How long the calls of such a connection may continue; 0 is until they end."""
    handshake_seconds: float = 15
    """How long the handshake of a connection may take; the HTTP server waits as long for a head."""
    idle_seconds: float = 60
    """How long a connection may be without a call."""

    def options(self) -> list[tuple[str, int]]:
        """These limits as options of a gRPC server."""
        return [
            # Clients without a key can connect, too. A client whose idle connection was closed
            # opens another with its next call.
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.max_connection_idle_ms", _milliseconds(self.idle_seconds)),
            ("grpc.max_connection_age_ms", _milliseconds(self.max_age_seconds)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(self.max_age_grace_seconds)),
            ("grpc.server_handshake_timeout_ms", _milliseconds(self.handshake_seconds)),
            # Calls per connection, and the headers of a call.
            ("grpc.max_concurrent_streams", self.max_streams),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
            # Pings of clients, with or without a call; after two that come too early, a third ends
            # the connection.
            ("grpc.http2.min_ping_interval_without_data_ms", round(self.min_ping_seconds * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            # Pings of the server.
            ("grpc.keepalive_time_ms", _milliseconds(self.keepalive_seconds)),
            ("grpc.keepalive_timeout_ms", _milliseconds(self.keepalive_timeout)),
            # gRPC 1.85 does not apply the former, and waits a minute.
            ("grpc.http2.ping_timeout_ms", _milliseconds(self.keepalive_timeout)),
            ("grpc.http2.max_pings_without_data", 0),
        ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000) or NEVER_MS
