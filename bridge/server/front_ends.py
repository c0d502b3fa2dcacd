"""Starts and stops the HTTP and the gRPC server: keys, listeners, settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace

import uvicorn
from fastapi import FastAPI

from bridge import __version__
from bridge.core.access import (
    USED_FILE,
    Access,
    FollowedKeys,
    KeyFile,
    KeySource,
    KeyStore,
    KeyStoreError,
    RedisKeys,
    Uploads,
)
from bridge.core.answers import (
    RedisResponseStore,
    RedisStorage,
    ResponseStore,
    SqliteResponseStore,
)
from bridge.core.contract import BOUNDS, Service
from bridge.core.ledger import Ledger
from bridge.core.redis import RedisLink
from bridge.core.system import UnixSocketError, is_loopback
from bridge.core.telemetry import Metrics, RecentRequests
from bridge.grpc_server import ConnectionLimits, GrpcServer
from bridge.http_server import HttpSettings, all_dialects, connections, create_app
from bridge.server.addresses import (
    Address,
    Listener,
    ListenError,
    Plan,
    Tcp,
    Unix,
    listen_http,
    plan_listening,
)
from bridge.server.changes import Changes
from bridge.server.grpc_connections import watch_grpc_connections
from bridge.server.live_tls import LiveTls
from bridge.server.settings import Settings
from bridge.server.start_error import StartError
from bridge.server.tls import read_tls

logger = logging.getLogger(__name__)

RESPONSES = "responses.sqlite3"
MAX_REQUEST_BYTES = BOUNDS.request_bytes
"""The largest request that either API accepts."""


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers: the supervisor installs them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield


@dataclass(frozen=True, slots=True)
class Shared:
    """What both servers use."""

    service: Service
    settings: Settings
    access: Access
    uploads: Uploads
    metrics: Metrics
    recent: RecentRequests
    ledger: Ledger
    tls: LiveTls | None
    redis: RedisLink | None = None


def key_store(settings: Settings) -> KeyStore:
    """Where the keys of `bridge keys` are: in Redis, unless a file is named."""
    if settings.bridge_redis_url is not None and settings.bridge_keys_file is None:
        return RedisKeys(settings.bridge_redis_url)
    # A file of keys may be where nothing can be written beside it.
    return KeyFile(settings.keys_file, settings.bridge_state_dir / USED_FILE)


async def redis_link(settings: Settings, stack: AsyncExitStack) -> RedisLink | None:
    """The link to Redis, if there is to be one, until the stack is closed."""
    if settings.bridge_redis_url is None:
        return None
    link = RedisLink(settings.bridge_redis_url)
    stack.push_async_callback(link.aclose)
    await link.start()
    return link


async def access_of(settings: Settings, redis: RedisLink | None) -> Access:
    """The keys; raises StartError if they cannot be used."""
    if settings.bridge_keys_file is not None and not settings.bridge_keys_file.exists():
        # A missing file must not open the server to everyone.
        raise StartError(
            f"BRIDGE_KEYS_FILE: {settings.bridge_keys_file} does not exist. "
            "Create a key with `bridge keys add NAME --mine`."
        )
    source: KeySource = key_store(settings)
    if redis is not None and settings.bridge_keys_file is None:
        source = FollowedKeys(redis)
    try:
        await source.look()
        access = Access(settings.bridge_api_keys, source)
    except KeyStoreError as error:
        raise StartError(str(error)) from error
    if isinstance(source, FollowedKeys) and settings.keys_file.exists():
        # A server that required keys continues to.
        access.require()
        if source.known and not source.read():
            logger.warning(
                "the keys are in Redis now, and those in %s are not used: bridge keys import %s",
                settings.keys_file,
                settings.keys_file,
            )
    return access


def open_listeners(
    settings: Settings, access: Access, *, http: bool, grpc: bool
) -> tuple[Plan, LiveTls | None, Listener | None]:
    """Decide where to listen, and open the HTTP API's socket; raises StartError."""
    if not access.known:
        try:
            plan_listening(settings, http=http, grpc=grpc, has_keys=False)
        except ListenError:
            # It is safe to listen there if there turns out to be none.
            access.require()
    try:
        plan = plan_listening(settings, http=http, grpc=grpc, has_keys=access.required)
        tls = LiveTls(read_tls(plan.tls)) if plan.tls is not None else None
        return plan, tls, listen_http(plan.http) if plan.http is not None else None
    except ListenError as error:
        raise StartError(str(error)) from error


def response_store(settings: Settings, redis: RedisLink | None = None) -> ResponseStore | None:
    """The store of responses; None if storing is off."""
    days = settings.bridge_responses_days
    max_bytes = settings.bridge_responses_megabytes * 1024 * 1024
    if days == 0:
        return None
    match settings.responses_store:
        case "redis":
            assert redis is not None
            return RedisResponseStore(RedisStorage(redis, days=days, max_bytes=max_bytes))
        case "memory":
            return SqliteResponseStore(None, days=days, max_bytes=max_bytes)
        case "file":
            path = settings.bridge_state_dir / RESPONSES
            return SqliteResponseStore(path, days=days, max_bytes=max_bytes)


def connection_limits(settings: Settings) -> ConnectionLimits:
    """The gRPC server's part of the settings. Pure."""
    return ConnectionLimits(
        max_connections=settings.bridge_grpc_max_connections,
        max_streams=settings.bridge_grpc_max_streams,
        keepalive_seconds=settings.bridge_grpc_keepalive_seconds,
        keepalive_timeout=settings.bridge_grpc_keepalive_timeout,
        min_ping_seconds=settings.bridge_grpc_min_ping_seconds,
        max_age_seconds=settings.bridge_grpc_max_connection_age,
        max_age_grace_seconds=settings.bridge_grpc_max_connection_age_grace,
    )


# long: each option of the server is named.
async def serve_grpc(
    shared: Shared, address: Address, stack: AsyncExitStack, changes: Changes
) -> Address:
    """Serve gRPC; returns the address with the actual port. Raises StartError."""
    tls, settings, access = shared.tls, shared.settings, shared.access
    limits = connection_limits(settings)
    server = GrpcServer(
        shared.service,
        host=settings.host,
        port=settings.grpc_port,
        uds=address.path if isinstance(address, Unix) else None,
        max_message_bytes=MAX_REQUEST_BYTES,
        credentials=None if tls is None else tls.grpc_credentials(),
        client_certificates=tls is not None and tls.tls.client_ca is not None,
        access=access,
        uploads=shared.uploads,
        allowed_origins=settings.bridge_allowed_origins,
        heartbeat_seconds=settings.bridge_heartbeat_seconds,
        limits=limits,
        occupancy=shared.metrics.occupancy,
        recent=shared.recent.lines,
        ledger=shared.ledger,
        replica=settings.replica,
    )
    try:
        port = await server.start()
    except OSError as error:
        raise StartError(f"The gRPC API cannot listen: {error.strerror or error}") from error
    except UnixSocketError as error:
        raise StartError(f"BRIDGE_GRPC_UDS: {error}") from error
    stack.push_async_callback(server.stop)
    forget = access.on_revoked

    def revoked(name: str) -> None:
        forget(name)
        server.keys_changed()

    access.on_revoked = revoked
    stack.callback(changes.follow(server.refresh_health))
    if not isinstance(address, Tcp):
        return address
    watching = asyncio.create_task(
        watch_grpc_connections(port, limits.max_connections, shared.metrics.occupancy)
    )
    stack.callback(watching.cancel)
    return replace(address, port=port)


def http_settings(settings: Settings, grpc_address: Address | None) -> HttpSettings:
    """The HTTP server's part of the settings. Pure."""
    return HttpSettings(
        strict=settings.bridge_strict,
        include_reasoning=settings.bridge_include_reasoning,
        max_body_bytes=MAX_REQUEST_BYTES,
        keep_alive_seconds=settings.bridge_heartbeat_seconds,
        idle_connection_seconds=settings.bridge_http_keep_alive,
        max_connections=settings.bridge_http_max_connections,
        grpc="" if grpc_address is None else str(grpc_address),
        # Further host names mean that other machines reach it, for example through a proxy.
        public=not is_loopback(settings.host) or bool(settings.bridge_allowed_hosts),
        allowed_hosts=(settings.host.lower(), *settings.bridge_allowed_hosts),
        allowed_origins=settings.bridge_allowed_origins,
        replica=settings.replica,
    )


def _uvicorn_config(
    app: FastAPI, http: type[asyncio.Protocol], tls: LiveTls | None
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=http,
        lifespan="off",
        # The app answers upgrade requests, whichever packages are installed.
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # Closing the engine ends what is left after the drain.
        timeout_graceful_shutdown=5,
        ssl_context_factory=None if tls is None else lambda config, default: tls.context,
    )


async def serve_http(
    shared: Shared, listener: Listener, grpc_address: Address | None, stack: AsyncExitStack
) -> None:
    """Serve HTTP on a listening socket until the stack is closed."""
    settings, redis = shared.settings, shared.redis
    server_settings = http_settings(settings, grpc_address)
    store = response_store(settings, redis)
    if store is not None:
        stack.push_async_callback(store.aclose)
        await store.expire()
    dialects = all_dialects(store)
    app = create_app(
        shared.service,
        dialects,
        version=__version__,
        settings=server_settings,
        access=shared.access,
        uploads=shared.uploads,
        metrics=shared.metrics.render,
        recent=shared.recent.lines,
        ledger=shared.ledger,
        redis_up=None if redis is None else lambda: redis.up,
    )
    http = connections(server_settings, dialects, shared.metrics.occupancy)
    server = HttpServer(_uvicorn_config(app, http, shared.tls))
    task = asyncio.create_task(server.serve(sockets=[listener.socket]))

    async def end() -> None:
        if listener.file is not None:
            # While the socket is open, no other can have its identity.
            listener.file.remove()
        server.should_exit = True
        await task

    stack.push_async_callback(end)
