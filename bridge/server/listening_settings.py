"""The settings of where the server listens, of its connections and of who may connect."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Final, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode

from bridge.core.system import check_host, check_origin, check_replica, replica_of_host

DAY: Final = 86_400
MOST: Final = 65_536
"""Of connections, or calls of one: more file descriptors than most systems have."""


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


_Item = TypeVar("_Item")
CommaSeparated: TypeAlias = Annotated[tuple[_Item, ...], NoDecode, BeforeValidator(_split)]
"""Items separated by commas; a variable's value is not JSON."""
Host: TypeAlias = Annotated[str, AfterValidator(check_host)]
Origin: TypeAlias = Annotated[str, AfterValidator(check_origin)]
Replica: TypeAlias = Annotated[str, AfterValidator(check_replica)]


# wide: one field a setting.
class ListeningSettings(BaseSettings):
    """The part of the settings that is about connections. See `Settings`."""

    host: str = Field("127.0.0.1", description="Address that both APIs listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port of the HTTP API; 0 picks a free one.")
    grpc_port: int = Field(
        50051, ge=0, le=65535, description="Port of the gRPC API; 0 picks a free one."
    )
    bridge_replica: Replica | None = Field(
        None,
        description="Name of this server among several, in headers, logs, metrics and traces. "
        "Default: the name of the host.",
    )
    bridge_uds: Path | None = Field(
        None, description="Unix socket that the HTTP API listens on instead of a port."
    )
    bridge_grpc_uds: Path | None = Field(
        None, description="Unix socket that the gRPC API listens on instead of a port."
    )
    bridge_tls_cert: Path | None = Field(
        None, description="Certificate with its chain, in PEM; enables TLS for both APIs."
    )
    bridge_tls_key: Path | None = Field(None, description="Key of the certificate, in PEM.")
    bridge_tls_client_ca: Path | None = Field(
        None,
        description="CA for client certificates, in PEM; the gRPC API then requires one.",
    )
    bridge_allowed_hosts: CommaSeparated[Host] = Field(
        (), description='Further host names of this server: "bridge.example.com,*.lan".'
    )
    bridge_allowed_origins: CommaSeparated[Origin] = Field(
        (),
        description='Origins of web pages that may use the HTTP API: "https://chat.example.com".',
    )
    bridge_http_keep_alive: int = Field(
        75,
        ge=1,
        le=DAY,
        description="Seconds an HTTP connection may be idle; set it above a proxy's limit.",
    )
    bridge_heartbeat_seconds: float = Field(
        10.0,
        ge=1,
        le=3600,
        description="Seconds of silence after which a stream gets a heartbeat: an event over gRPC, "
        "a comment over HTTP.",
    )
    bridge_upload_megabytes: int = Field(
        512,
        ge=64,
        description="Memory for requests still being received, in MB; one key may use half.",
    )
    bridge_http_max_connections: int = Field(
        512, ge=1, le=MOST, description="Maximum number of connections of the HTTP API."
    )
    bridge_grpc_max_connections: int = Field(
        256, ge=1, le=MOST, description="Maximum number of connections of the gRPC API."
    )
    bridge_grpc_max_streams: int = Field(
        256,
        ge=1,
        le=MOST,
        description="Calls that a gRPC connection may have open; its further ones wait.",
    )
    bridge_grpc_keepalive_seconds: float = Field(
        60.0,
        ge=1,
        le=DAY,
        description="Seconds of silence after which the server pings a gRPC client.",
    )
    bridge_grpc_keepalive_timeout: float = Field(
        20.0,
        ge=1,
        le=DAY,
        description="Seconds a gRPC client may take to answer a ping before its connection is "
        "closed.",
    )
    bridge_grpc_min_ping_seconds: float = Field(
        0.0,
        ge=0,
        le=DAY,
        description="Seconds that gRPC clients must leave between pings, or their connection is "
        "closed; 0 means no limit.",
    )
    bridge_grpc_max_connection_age: float = Field(
        0.0,
        ge=0,
        le=DAY,
        description="Seconds after which a gRPC client must connect again, so that a balancer "
        "distributes its calls again; 0 means no limit.",
    )
    bridge_grpc_max_connection_age_grace: float = Field(
        0.0,
        ge=0,
        le=DAY,
        description="Seconds that the calls of such a connection may continue; 0 means until they "
        "end.",
    )

    @property
    def replica(self) -> str:
        """The name of this server."""
        return self.bridge_replica or replica_of_host(socket.gethostname())
