"""Whether the addresses are free, and which server listens there otherwise."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Mapping,
)
from contextlib import AsyncExitStack
from typing import Any, Final, TypeAlias

import httpx

from bridge.client import certified_name, target_of
from bridge.core.system import UnixSocketError, is_served
from bridge.doctor.findings import (
    Finding,
    Mark,
    Reply,
    certificate_finding,
    port_finding,
    socket_finding,
)
from bridge.server import (
    Address,
    ListenError,
    Settings,
    StartError,
    Tcp,
    Tls,
    Unix,
    access_of,
    first_certificate,
    grpc_address,
    http_address,
    local_address,
    local_url,
    own_client_context,
    plan_listening,
    read_tls,
    redis_link,
)

_ANSWER_SECONDS: Final = 3.0


Ask: TypeAlias = "Callable[[Address, Tls | None], Awaitable[Reply]]"
"""Asks the server at an address for its health."""


async def listening_findings(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Whether both APIs can listen on their addresses."""
    try:
        async with AsyncExitStack() as stack:
            access = await access_of(settings, await redis_link(settings, stack))
        plan = plan_listening(settings, http=True, grpc=True, has_keys=access.required)
        tls = read_tls(plan.tls) if plan.tls is not None else None
    except (ListenError, StartError) as error:
        found, _, remedy = str(error).partition("\n")
        yield Finding("listening", Mark.BAD, found, remedy or "See docs/security.md.")
        return
    if tls is not None:
        yield certificate_finding(tls.not_after, time.time())
    yield await _listening_finding(
        *("http port", "PORT", "BRIDGE_UDS", http_address(settings), tls, _http_bridge)
    )
    yield await _listening_finding(
        *("grpc port", "GRPC_PORT", "BRIDGE_GRPC_UDS", grpc_address(settings), tls, _grpc_bridge)
    )


async def _listening_finding(
    name: str, port_variable: str, uds_variable: str, address: Address, tls: Tls | None, ask: Ask
) -> Finding:
    if isinstance(address, Tcp):
        problem = _why_not_free(address.host, address.port) if address.port else None
        taken = problem == errno.EADDRINUSE
        reply = await ask(local_address(address), tls) if taken else Reply()
        return port_finding(name, port_variable, address.host, address.port, problem, reply)
    try:
        served = is_served(address.path)
    except UnixSocketError as error:
        return socket_finding(name, uds_variable, address.path, str(error))
    reply = await ask(address, tls) if served else Reply()
    problem_text = "another program listens on it" if served else ""
    return socket_finding(name, uds_variable, address.path, problem_text, reply)


def _why_not_free(host: str, port: int) -> int | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return None


async def _http_bridge(address: Address, tls: Tls | None) -> Reply:
    url = f"{local_url(address, tls=tls is not None)}/health"
    transport = httpx.AsyncHTTPTransport(
        verify=True if tls is None else own_client_context(tls.files.cert),
        uds=str(address.path) if isinstance(address, Unix) else None,
    )
    try:
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, transport=transport) as client:
            reply = await client.get(url)
        return Reply(health_said(reply.json(), reply.headers))
    except httpx.HTTPError as error:
        return Reply(tls_problem=tls_problem(error))
    except (ValueError, KeyError, TypeError):
        return Reply()


def tls_problem(error: BaseException | None) -> str:
    """Why a TLS connection failed; empty if the error has another cause."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            shown = error.verify_message or "not the expected one"
            return f"its certificate is not trusted ({shown})"
        if isinstance(error, ssl.SSLError):
            return f"TLS failed ({(error.reason or 'unknown reason').replace('_', ' ').lower()})"
        error = error.__cause__ or error.__context__
    return ""


def health_said(health: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """Summarise a bridge's `/health`; raises KeyError if it is not a bridge's."""
    if "version" not in health:
        # If other machines can reach it, it reports no more without an admin key.
        if not {"openai-version", "x-request-id"} <= headers.keys():
            raise KeyError("version")
        return f" ({health['status']})"
    return f" ({health['version']}, Claude Code {health['cli_version']}, {health['status']})"


async def _grpc_bridge(address: Address, tls: Tls | None) -> Reply:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    request = health_pb2.HealthCheckRequest(service="bridge.v1.CompletionService")
    try:
        if tls is None:
            channel = grpc.aio.insecure_channel(target_of(address))
        else:
            # This also checks that the server has this certificate.
            name = await asyncio.to_thread(certified_name, address, tls.files.cert)
            if tls.client_ca is not None:
                return Reply(" (it requires a client certificate)")
            channel = grpc.aio.secure_channel(
                target_of(address),
                grpc.ssl_channel_credentials(first_certificate(tls.cert)),
                options=[("grpc.ssl_target_name_override", name)],
            )
        async with channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(request, timeout=_ANSWER_SECONDS)  # type: ignore[attr-defined]
    except (grpc.RpcError, OSError) as error:
        return Reply(tls_problem=tls_problem(error))
    serving = reply.status == health_pb2.HealthCheckResponse.SERVING
    return Reply(" (ok)" if serving else " (not serving)")
