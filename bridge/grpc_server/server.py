"""The gRPC server: address, limits, health, reflection, drain."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import grpc
from grpc_health.v1 import (
    health,
    health_pb2,
    health_pb2_grpc,
)

from bridge.core.access import Access, Uploads
from bridge.core.contract import BOUNDS, Service
from bridge.core.ledger import Ledger
from bridge.core.system import UnixSocket, make_unix_socket
from bridge.core.telemetry import Occupancy
from bridge.grpc_server.authenticator import CallAuthenticator
from bridge.grpc_server.call_context import Calls
from bridge.grpc_server.completion import CompletionServicer
from bridge.grpc_server.connections.address import resolve
from bridge.grpc_server.connections.limits import ConnectionLimits
from bridge.grpc_server.connections.streams import Streams
from bridge.grpc_server.converse import OpenConversations
from bridge.grpc_server.interceptors import CallInterceptor
from bridge.grpc_server.models import ModelServicer
from bridge.grpc_server.pool import PoolServicer
from bridge.grpc_server.receiving import Receiver
from bridge.grpc_server.reflection import add_reflection
from bridge.grpc_server.usage import UsageServicer
from bridge.v1 import (
    completion_pb2,
    completion_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    pool_pb2,
    pool_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)

_log = logging.getLogger(__name__)

SERVICES: Final = (
    completion_pb2.DESCRIPTOR.services_by_name["CompletionService"].full_name,
    model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
    pool_pb2.DESCRIPTOR.services_by_name["PoolService"].full_name,
    usage_pb2.DESCRIPTOR.services_by_name["UsageService"].full_name,
)
"""The bridge's own services, by their full names."""

_OVER_BYTES: Final = 8 * 1024 * 1024
"""How far a message may be over the limit and get its reason. gRPC itself refuses without one, and
each call counts as the largest message while it is read: more would leave room for fewer calls."""
_CLEANUP_SECONDS: Final = 10.0


LIVENESS: Final = "liveness"
"""The name under which grpc.health.v1 reports that the process lives, whether it serves or not."""

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class _Health:
    """grpc.health.v1: whether requests are served, by the names of the services."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()
        self._stopped = False

    async def report(self, *, serving: bool) -> None:
        """Report it for every service; no effect after `stop`."""
        if self._stopped:
            return
        await self.servicer.set(LIVENESS, _SERVING)
        for name in ("", *SERVICES):
            await self.servicer.set(name, _SERVING if serving else _NOT_SERVING)

    async def stop(self) -> None:
        """Report that no requests are served any more."""
        await self.report(serving=False)
        self._stopped = True


class GrpcServer:
    """Serves a `Service` over gRPC on the running event loop.

    Call `start()`, then `refresh_health()` whenever the service's health may have changed, then
    `drain(grace)` or `stop()`, once. A server that has ended cannot be started again.

    `max_message_bytes` limits an uncompressed message and the content of a conversation;
    `stall_seconds` how long a client may not read its answer; `request_seconds` how long a single
    request may take to arrive; `max_conversations` the open Converse calls per caller;
    `heartbeat_seconds` after how much silence an answer gets a heartbeat, and a watch of the pool
    its state again. `uploads` counts the requests being received, and `occupancy` what reached a
    limit. With `uds` the server listens on that Unix socket instead of a port. Without `access` no
    key is required. With `client_certificates` the credentials require a certificate from each
    client, which identifies it if no key does. `recent` returns the latest requests, and `ledger`
    what they used. `replica` is the name of this server among several, sent with every reply.
    """

    # long: each option is a parameter.
    def __init__(
        self,
        service: Service,
        *,
        host: str = "127.0.0.1",
        port: int = 50051,
        uds: Path | None = None,
        max_message_bytes: int = BOUNDS.request_bytes,
        stall_seconds: float = 60,
        request_seconds: float = 60,
        max_conversations: int = 64,
        heartbeat_seconds: float = 10,
        credentials: grpc.ServerCredentials | None = None,
        client_certificates: bool = False,
        access: Access | None = None,
        uploads: Uploads | None = None,
        allowed_origins: tuple[str, ...] = (),
        limits: ConnectionLimits | None = None,
        occupancy: Occupancy | None = None,
        recent: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
        ledger: Ledger | None = None,
        replica: str = "",
    ) -> None:
        self._service = service
        self._host = host
        self._port = port if uds is None else 0
        self._uds = uds
        self._socket: UnixSocket | None = None
        self._credentials = credentials
        limits, occupancy = limits or ConnectionLimits(), occupancy or Occupancy()
        self._options = _options(max_message_bytes, limits)
        self._receiver = Receiver(
            uploads or Uploads(), max_message_bytes + _OVER_BYTES, request_seconds
        )
        access = access or Access()
        self._calls = Calls(access.check)
        self._pool = PoolServicer(
            service, self._calls, recent, heartbeat_seconds=heartbeat_seconds, replica=replica
        )
        self._usage = UsageServicer(ledger, access.is_admin)
        self._interceptor = CallInterceptor(
            self._calls,
            CallAuthenticator(access, allowed_origins, certificates=client_certificates),
            self._receiver,
            Streams(limits.max_streams, occupancy),
            stall_seconds=stall_seconds,
            max_message_bytes=max_message_bytes,
            replica=replica,
        )
        self._completion = CompletionServicer(
            service,
            self._calls,
            OpenConversations(max_conversations, occupancy),
            max_conversation_bytes=max_message_bytes,
            heartbeat_seconds=heartbeat_seconds,
            replica=replica,
        )
        self._health = _Health()
        self._server: grpc.aio.Server | None = None

    @property
    def port(self) -> int:
        """The actual port, after `start()`; 0 for a Unix socket."""
        return self._port

    @property
    def running(self) -> int:
        """The number of the bridge's own calls that have not ended, their cleanup included."""
        return len(self._calls)

    @property
    def receiving(self) -> int:
        """The number of calls whose request has not arrived."""
        return self._receiver.receiving

    @property
    def waiting(self) -> int:
        """The number of calls that wait for room to receive their request."""
        return self._receiver.waiting

    async def start(self) -> int:
        """Listen and serve; return the port.

        Raises OSError if the address is not available, and UnixSocketError for a socket.
        """
        server = grpc.aio.server(interceptors=[self._interceptor], options=self._options)
        self._add_services(server)
        self._listen(server)
        await self.refresh_health()
        await server.start()
        self._server = server
        return self._port

    def _add_services(self, server: grpc.aio.Server) -> None:
        completion_pb2_grpc.add_CompletionServiceServicer_to_server(self._completion, server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self._service), server)
        pool_pb2_grpc.add_PoolServiceServicer_to_server(self._pool, server)
        usage_pb2_grpc.add_UsageServiceServicer_to_server(self._usage, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        add_reflection((*SERVICES, health.SERVICE_NAME), server)

    def _listen(self, server: grpc.aio.Server) -> None:
        if self._uds is not None:
            # gRPC would remove the socket of another running server, and at its own end whatever
            # has that name; so it only gets a name that no other process knows.
            self._socket = make_unix_socket(
                self._uds, lambda path: self._add_port(server, f"unix:{quote(os.fsencode(path))}")
            )
            return
        for address in resolve(self._host, self._port):
            self._port = self._add_port(server, address.target(self._port))

    def _add_port(self, server: grpc.aio.Server, target: str) -> int:
        try:
            if self._credentials is None:
                return server.add_insecure_port(target)
            return server.add_secure_port(target, self._credentials)
        except RuntimeError:
            raise OSError(f"gRPC could not listen on {target}.") from None

    def keys_changed(self) -> None:
        """End the watches, and the conversations between turns, of revoked keys."""
        self._calls.recheck()

    async def refresh_health(self) -> None:
        """Report the service's health over grpc.health.v1; no effect once a drain has started."""
        await self._health.report(serving=self._service.health().serving)

    async def drain(self, grace: float) -> None:
        """Refuse new calls, give the running ones `grace` seconds, then end everything.

        Conversations between turns and watches of the pool are ended at once.

        grpc.aio's own stop returns before the handlers' `finally` blocks have run, and waits its
        whole grace for a client that watches the health. This waits for exactly the bridge's own
        calls, cleanup included: the pool may be closed after it.
        """
        await self._health.stop()
        if self._socket is not None:
            # No client can connect from here on. While it is open, no other has its identity.
            self._socket.remove()
            self._socket = None
        if self._server is None:
            return
        refusing = asyncio.create_task(self._server.stop(grace + _CLEANUP_SECONDS))
        # Calls that have arrived are tracked from their first step on.
        await asyncio.sleep(0)
        self._calls.drain()
        await self._calls.finished(grace)
        self._calls.end()
        if not await self._calls.finished(_CLEANUP_SECONDS):
            _log.error("%d calls did not finish", self.running)
        await self._server.stop(None)
        await refusing

    async def stop(self) -> None:
        """Drain without grace."""
        await self.drain(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()


def _options(max_message_bytes: int, limits: ConnectionLimits) -> list[tuple[str, int]]:
    return [
        # If on, a second server would share the port without an error.
        ("grpc.so_reuseport", 0),
        # A little more than is accepted: gRPC itself refuses without a reason.
        ("grpc.max_receive_message_length", max_message_bytes + _OVER_BYTES),
        ("grpc.max_send_message_length", max_message_bytes),
        # Flow-control windows grow with the message being read. If they grew with the speed of the
        # network, each call could send 4 MB before any of it is read, whatever its key.
        ("grpc.http2.bdp_probe", 0),
        *limits.options(),
    ]
