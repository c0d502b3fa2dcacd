"""What `bridge doctor` finds: one check after the other, each with what to do where it is not well.

The judgements are pure functions of what was seen; what sees is beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, aclosing
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
from pydantic import ValidationError

from bridge.client.connection import certified_name, target_of
from bridge.core.claude import ControlError, Launcher, ProcessGoneError
from bridge.core.contract import BridgeError, CompletionRequest, Health, Message, Role, TextPart
from bridge.core.engine import Engine, EngineOptions
from bridge.core.pool import PoolLimits
from bridge.core.system import OrphanGuard, UnixSocketError, is_served
from bridge.core.telemetry import Observers, RequestRecord
from bridge.probe import ProbeError, Report, fallbacks, missing, report_for
from bridge.server.addresses import (
    Address,
    ListenError,
    Tcp,
    Unix,
    grpc_address,
    http_address,
    local_address,
    local_url,
    plan_listening,
)
from bridge.server.settings import Settings
from bridge.server.settings_errors import unknown_variables, wrong_values
from bridge.server.supervisor import StartError, access_of, bundled_cli, make_launcher
from bridge.server.tls import Tls, first_certificate, own_client_context, read_tls

TESTED_CLI: Final = "2.1.330"
"""The version of Claude Code that this bridge was tested with."""

PROCESS_BYTES: Final = 210_000_000
"""The memory of one Claude Code process, as measured."""

_SPARE_DISK_BYTES: Final = 100_000_000
_ANSWER_SECONDS: Final = 3.0
_VERSION_SECONDS: Final = 60.0
Ask: TypeAlias = "Callable[[Address, Tls | None], Awaitable[str | None]]"
"""Asks who listens there; None where it is no bridge."""

_NO_FLAGS: Final[Mapping[str, Any]] = {}

_QUESTION: Final = "Answer with the one word: ready"


class Mark(StrEnum):
    """How a check came out."""

    GOOD = "good"
    WARNING = "warning"
    """It works, but a person should know."""
    BAD = "bad"
    """`bridge serve` does not work like that."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    mark: Mark
    found: str
    remedy: str = ""
    """What to do; empty where all is well."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


async def examine(*, demo: bool = False, live: bool = False) -> AsyncGenerator[Finding, None]:
    """Check everything in turn; with `live` ask the model once, which the plan pays for."""
    yield python_finding(sys.version_info[:3], sys.platform)
    try:
        settings = Settings(**_NO_FLAGS)
    except ValidationError as error:
        yield settings_finding(wrong=wrong_values(error))
        return
    yield settings_finding(settings.model_fields_set, unknown=unknown_variables(os.environ))
    async with AsyncExitStack() as stack:
        try:
            cli = bundled_cli()
        except StartError as error:
            yield Finding("claude", Mark.BAD, str(error), _REINSTALL)
            return
        launcher = await _launcher(cli, settings, stack, demo=demo)
        yield cli_finding(cli, await _version_of(launcher))
        options = EngineOptions(PoolLimits(1, 1, 0), system_prompt="", simulated=demo)
        engine = Engine(launcher, options, Observers(()))
        stack.push_async_callback(engine.aclose)
        began = time.perf_counter()
        ready: float | None = None
        try:
            await engine.start()
        except (OSError, ControlError, ProcessGoneError) as error:
            yield Finding(
                "login",
                Mark.BAD,
                f"Claude Code did not start: {type(error).__name__}.",
                "Run `claude` by hand to see whether it works on this machine.",
            )
        else:
            ready = time.perf_counter() - began
            yield login_finding(engine.health(), uses_key=_uses_key(launcher, engine))
        yield await _probe_finding(cli, settings)
        async for finding in _door_findings(settings):
            yield finding
        yield disk_finding(settings, *_disk(settings.bridge_state_dir))
        yield memory_finding(settings.pool_size, settings.max_processes, available_memory())
        if live and ready is not None:
            yield await _live_finding(engine, ready)


# Python, the settings and Claude Code

_REINSTALL = "Install claude-code-bridge anew: pip install --force-reinstall claude-code-bridge"


def python_finding(version: tuple[int, ...], platform: str) -> Finding:
    """Whether this Python will do."""
    text = ".".join(map(str, version))
    facts = {"version": text, "platform": platform}
    if version < (3, 11):
        return Finding("python", Mark.BAD, text, "Install Python 3.11 or later.", facts)
    if platform == "win32":
        remedy = "Use it within WSL."
        return Finding("python", Mark.BAD, f"{text} on Windows", remedy, facts)
    return Finding("python", Mark.GOOD, f"{text} on {platform}", facts=facts)


def settings_finding(
    changed: Collection[str] = (), *, wrong: Sequence[str] = (), unknown: Sequence[str] = ()
) -> Finding:
    """Whether the settings can be used, and are those that were meant.

    `changed` are those that are not left at their defaults, `wrong` and `unknown` sentences.
    """
    names = sorted(name.upper() for name in changed)
    # Their values may be secrets.
    facts = {"changed": names, "wrong": list(wrong), "unknown": list(unknown)}
    if wrong:
        remedy = "The other checks need settings that can be used. See docs/settings.md."
        return Finding("settings", Mark.BAD, " ".join(wrong), remedy, facts)
    found = f"set: {', '.join(names)}; the rest are defaults" if names else "all are defaults"
    if unknown:
        return Finding("settings", Mark.WARNING, found, " ".join(unknown), facts)
    return Finding("settings", Mark.GOOD, found, facts=facts)


def cli_finding(cli: Path, version: str) -> Finding:
    """Whether this Claude Code is the one that was tested; an empty version does not run."""
    facts = {"path": str(cli), "version": version, "tested": TESTED_CLI}
    if not version:
        return Finding("claude", Mark.BAD, f"{cli} does not run.", _REINSTALL, facts)
    if version != TESTED_CLI:
        return Finding(
            "claude",
            Mark.WARNING,
            f"Claude Code {version}; tested is {TESTED_CLI}",
            "The probe below says what it can do. To have the tested one: "
            "pip install --upgrade claude-code-bridge",
            facts,
        )
    return Finding("claude", Mark.GOOD, f"Claude Code {version}, the one tested", facts=facts)


async def _version_of(launcher: Launcher) -> str:
    """What `claude --version` says first; empty where it does not run."""
    try:
        process = await asyncio.create_subprocess_exec(
            str(launcher.cli),
            "--version",
            env=dict(launcher.environment),
            cwd=launcher.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_VERSION_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return output.decode(errors="replace").split(" ")[0].strip() if not process.returncode else ""


async def _launcher(
    cli: Path, settings: Settings, stack: AsyncExitStack, *, demo: bool
) -> Launcher:
    guard = await stack.enter_async_context(OrphanGuard())
    if not demo:
        return make_launcher(cli, settings, None, guard, stack)
    from bridge.simulator import Simulator

    simulator = await stack.enter_async_context(Simulator())
    return make_launcher(cli, settings, simulator, guard, stack)


# The login

_LOG_IN = (
    "Run `claude` and type /login, or set CLAUDE_CODE_OAUTH_TOKEN (from `claude setup-token`). "
    "To look around without an account: bridge serve --demo"
)


def login_finding(health: Health, *, uses_key: bool = False) -> Finding:
    """Who pays."""
    facts = {
        "logged_in": health.logged_in,
        "account": health.account,
        "plan": health.subscription,
        "simulated": health.simulated,
    }
    if health.simulated:
        return Finding("login", Mark.GOOD, "none: a simulated model answers (--demo)", facts=facts)
    if not health.logged_in:
        return Finding("login", Mark.BAD, "Claude Code is not logged in.", _LOG_IN, facts)
    found = f"{health.account} pays for every answer"
    if health.subscription:
        found += f" ({health.subscription})"
    if uses_key:
        remedy = "An API key is billed by use. For your subscription: unset ANTHROPIC_API_KEY."
        return Finding("login", Mark.WARNING, found, remedy, facts)
    return Finding("login", Mark.GOOD, found, facts=facts)


def _uses_key(launcher: Launcher, engine: Engine) -> bool:
    return launcher.has_api_key and engine.health().account == "ANTHROPIC_API_KEY"


# What it can do


async def _probe_finding(cli: Path, settings: Settings) -> Finding:
    try:
        return probe_finding(await report_for(cli, settings.bridge_state_dir))
    except (ProbeError, OSError) as error:
        found = f"It could not be found out: {type(error).__name__}."
        return Finding("probe", Mark.BAD, found, "Run `claude` by hand to see whether it works.")


def probe_finding(report: Report) -> Finding:
    """What of all that the bridge relies on this Claude Code does."""
    held = sum(report.found.values())
    found = f"does {held} of the {len(report.found)} things that the bridge relies on"
    lacking = missing(report)
    facts = {"held": held, "looked_for": len(report.found), "missing": list(lacking)}
    if lacking:
        return Finding(
            "probe",
            Mark.BAD,
            f"{found}; missing: {'; '.join(lacking)}",
            "Install the version of claude-agent-sdk that this bridge was made for.",
            facts,
        )
    if instead := fallbacks(report):
        remedy = "It works, but slower. An update of the bridge may know this Claude Code."
        return Finding("probe", Mark.WARNING, f"{found}; {'; '.join(instead)}", remedy, facts)
    return Finding("probe", Mark.GOOD, found, facts=facts)


# Ports


def port_finding(
    name: str, variable: str, host: str, port: int, problem: int | None, bridge: str | None
) -> Finding:
    """Whether a door can listen; `problem` is the errno, `bridge` what answers there already."""
    facts = {"host": host, "port": port, "free": problem is None, "bridge": bridge is not None}
    where = f"{host}:{port}"
    if port == 0:
        return Finding(name, Mark.GOOD, f"any free one ({variable}=0)", facts=facts)
    if problem is None:
        return Finding(name, Mark.GOOD, f"{where} is free", facts=facts)
    if bridge is not None:
        return Finding(name, Mark.GOOD, f"{where} is served by a running bridge{bridge}", "", facts)
    if problem == errno.EADDRINUSE:
        remedy = f"Stop what listens there, or set {variable} to a free port."
        return Finding(name, Mark.BAD, f"{where} is taken by another program", remedy, facts)
    if problem == errno.EACCES:
        remedy = f"Set {variable} to a port from 1024 up."
        return Finding(name, Mark.BAD, f"{where} needs special rights", remedy, facts)
    found = f"{where} cannot be had: {os.strerror(problem)}"
    return Finding(name, Mark.BAD, found, "Set HOST to an address of this machine.", facts)


async def _door_findings(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Whether both doors can listen where they are to."""
    try:
        keys = access_of(settings).required
        plan = plan_listening(settings, http=True, grpc=True, has_keys=keys)
        tls = read_tls(plan.tls) if plan.tls is not None else None
    except (ListenError, StartError) as error:
        found, _, remedy = str(error).partition("\n")
        yield Finding("doors", Mark.BAD, found, remedy or "See docs/security.md.")
        return
    yield await _door_finding(
        *("http port", "PORT", "BRIDGE_UDS", http_address(settings), tls, _http_bridge)
    )
    yield await _door_finding(
        *("grpc port", "GRPC_PORT", "BRIDGE_GRPC_UDS", grpc_address(settings), tls, _grpc_bridge)
    )


async def _door_finding(
    name: str, port_variable: str, uds_variable: str, address: Address, tls: Tls | None, ask: Ask
) -> Finding:
    if isinstance(address, Tcp):
        problem = _why_not_free(address.host, address.port) if address.port else None
        bridge = await ask(local_address(address), tls) if problem == errno.EADDRINUSE else None
        return port_finding(name, port_variable, address.host, address.port, problem, bridge)
    try:
        served = is_served(address.path)
    except UnixSocketError as error:
        return socket_finding(name, uds_variable, address.path, str(error), None)
    bridge = await ask(address, tls) if served else None
    problem_text = "another program listens on it" if served else ""
    return socket_finding(name, uds_variable, address.path, problem_text, bridge)


def socket_finding(
    name: str, variable: str, path: Path, problem: str, bridge: str | None
) -> Finding:
    """Whether a door can listen on a Unix socket; `bridge` is what answers there already."""
    facts = {"path": str(path), "free": not problem, "bridge": bridge is not None}
    if bridge is not None:
        return Finding(name, Mark.GOOD, f"{path} is served by a running bridge{bridge}", "", facts)
    if problem:
        remedy = f"Set {variable} to another path."
        return Finding(name, Mark.BAD, f"{path}: {problem}", remedy, facts)
    return Finding(name, Mark.GOOD, f"{path} is free", facts=facts)


def _why_not_free(host: str, port: int) -> int | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return None


async def _http_bridge(address: Address, tls: Tls | None) -> str | None:
    """What a bridge that listens there says of itself; None where it is no bridge."""
    url = f"{local_url(address, tls=tls is not None)}/health"
    transport = httpx.AsyncHTTPTransport(
        verify=True if tls is None else own_client_context(tls.files.cert),
        uds=str(address.path) if isinstance(address, Unix) else None,
    )
    with contextlib.suppress(httpx.HTTPError, ValueError, KeyError, TypeError):
        async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, transport=transport) as client:
            reply = await client.get(url)
        return health_said(reply.json(), reply.headers)
    return None


def health_said(health: Mapping[str, Any], headers: Mapping[str, str]) -> str:
    """What a bridge says of itself in its `/health`; raises KeyError where it is none."""
    if "version" not in health:
        # To those without an admin key it tells no more, where others can reach it.
        if not {"openai-version", "x-request-id"} <= headers.keys():
            raise KeyError("version")
        return f" ({health['status']})"
    return f" ({health['version']}, Claude Code {health['cli_version']}, {health['status']})"


async def _grpc_bridge(address: Address, tls: Tls | None) -> str | None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    request = health_pb2.HealthCheckRequest(service="bridge.v1.CompletionService")
    try:
        if tls is None:
            channel = grpc.aio.insecure_channel(target_of(address))
        else:
            # Also shows that it is a server with this certificate.
            name = await asyncio.to_thread(certified_name, address, tls.files.cert)
            if tls.client_ca is not None:
                return " (it asks for a client's certificate)"
            channel = grpc.aio.secure_channel(
                target_of(address),
                grpc.ssl_channel_credentials(first_certificate(tls.cert)),
                options=[("grpc.ssl_target_name_override", name)],
            )
        async with channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(request, timeout=_ANSWER_SECONDS)  # type: ignore[attr-defined]
    except (grpc.RpcError, OSError):
        return None
    serving = reply.status == health_pb2.HealthCheckResponse.SERVING
    return " (ok)" if serving else " (not serving)"


# Room


def disk_finding(settings: Settings, writable: bool, free: int) -> Finding:
    """Whether the state folder can take what is written into it."""
    folder = settings.bridge_state_dir
    logs = settings.bridge_session_log_megabytes * (settings.bridge_session_log_files + 1)
    need = round(logs * 1024 * 1024) if settings.session_log_path else 0
    need += _SPARE_DISK_BYTES
    facts = {"folder": str(folder), "writable": writable, "free": free, "needed": need}
    if not writable:
        remedy = "Make it writable, or set BRIDGE_STATE_DIR to a folder that is."
        return Finding("disk", Mark.BAD, f"{folder} cannot be written", remedy, facts)
    found = f"{_size(free)} free for {folder}"
    if free < need:
        remedy = f"Up to {_size(need)} may be needed: see BRIDGE_SESSION_LOG_MEGABYTES."
        return Finding("disk", Mark.WARNING, found, remedy, facts)
    return Finding("disk", Mark.GOOD, found, facts=facts)


def memory_finding(pool_size: int, max_processes: int, available: int | None) -> Finding:
    """Whether there is memory for so many processes."""
    need, most = pool_size * PROCESS_BYTES, max_processes * PROCESS_BYTES
    facts = {"available": available, "needed": need, "at_most": most}
    if available is None:
        found = f"not known here; {_size(need)} to {_size(most)} will be used"
        return Finding("memory", Mark.GOOD, found, facts=facts)
    found = f"{_size(available)} available; POOL_SIZE={pool_size} takes {_size(need)}"
    found += f", all processes at most {_size(most)}"
    if available < PROCESS_BYTES:
        return Finding("memory", Mark.BAD, found, "Free memory: not one process fits.", facts)
    if available < most:
        remedy = "Lower POOL_SIZE or BRIDGE_MAX_PROCESSES, or free memory."
        return Finding("memory", Mark.WARNING, found, remedy, facts)
    return Finding("memory", Mark.GOOD, found, facts=facts)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _disk(folder: Path) -> tuple[bool, int]:
    """Whether the folder can be made and written, and the bytes free there."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return writable and _takes_a_file(existing), shutil.disk_usage(existing).free


def _takes_a_file(folder: Path) -> bool:
    # For root everything counts as writable, also on a disk that is not.
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that processes may still take, a container's limit included; None if unknown."""
    found = [amount for amount in (_of_machine(root), _of_container(root)) if amount is not None]
    return min(found, default=None)


def _of_machine(root: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _of_container(root: Path) -> int | None:
    group = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError, ValueError):
        limit, used = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        return max(int(limit) - int(used), 0)
    return None


# One completion


async def _live_finding(engine: Engine, ready: float) -> Finding:
    message = Message(Role.USER, (TextPart(_QUESTION),))
    record = RequestRecord(CompletionRequest((message,)), time.perf_counter())
    try:
        async for event in _events(engine, record.request):
            record.see(event, time.perf_counter())
    except BridgeError as error:
        return Finding("completion", Mark.BAD, error.message, _live_remedy(error))
    return live_finding(record, ready, time.perf_counter())


def _live_remedy(error: BridgeError) -> str:
    if error.retry_after is not None:
        return f"Try again in {error.retry_after:.0f} seconds."
    return "See the checks above, or try `claude` by hand."


async def _events(engine: Engine, request: CompletionRequest) -> AsyncIterator[Any]:
    async with aclosing(engine.complete(request)) as events:
        async for event in events:
            yield event


def live_finding(record: RequestRecord, ready: float, now: float) -> Finding:
    """The times of a completion that was answered."""
    first = (record.first_at or now) - record.started_at
    total = now - record.started_at
    facts = {
        "model": record.model,
        "ready_seconds": round(ready, 3),
        "first_token_seconds": round(first, 3),
        "total_seconds": round(total, 3),
    }
    found = f"{record.model}: ready after {ready:.2f} s, first token {first:.2f} s, "
    return Finding("completion", Mark.GOOD, f"{found}all {total:.2f} s", facts=facts)
