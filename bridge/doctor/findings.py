"""Findings of the checks, with remedies. Pure."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import (
    Collection,
    Sequence,
)
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from bridge.core.claude import ControlError, ProcessGoneError
from bridge.core.contract import Health, UsageLimits
from bridge.probe import Report, Shipped, fallbacks, missing
from bridge.server import Settings

TESTED: Final = Shipped.read()
"""The versions of claude-agent-sdk and of its Claude Code that this bridge was tested with."""

PROCESS_BYTES: Final = 210_000_000
"""The memory of one Claude Code process, as measured."""


_SPARE_DISK_BYTES: Final = 100_000_000


class Mark(StrEnum):
    """The result of a check."""

    GOOD = "good"
    WARNING = "warning"
    """It works, but the user should know."""
    BAD = "bad"
    """`bridge serve` would not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, with its remedy."""

    check: str
    mark: Mark
    found: str
    remedy: str = ""
    """What to do; empty if nothing."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The finding as data, for `--json`."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


# Never this project's own name: on the package index it belongs to another project.
REINSTALL: Final = (
    "Reinstall it in the environment of the bridge: "
    f"pip install --force-reinstall --no-deps claude-agent-sdk=={TESTED.sdk}"
)


def python_finding(version: tuple[int, ...], platform: str) -> Finding:
    """Whether this Python is supported."""
    text = ".".join(map(str, version))
    facts = {"version": text, "platform": platform}
    if version < (3, 11):
        return Finding("python", Mark.BAD, text, "Install Python 3.11 or later.", facts)
    if platform == "win32":
        remedy = "Run it in WSL."
        return Finding("python", Mark.BAD, f"{text} on Windows", remedy, facts)
    return Finding("python", Mark.GOOD, f"{text} on {platform}", facts=facts)


def settings_finding(
    changed: Collection[str] = (), *, wrong: Sequence[str] = (), unknown: Sequence[str] = ()
) -> Finding:
    """Whether the settings are valid and known.

    `changed` are the variables that are not at their defaults, `wrong` and `unknown` are sentences.
    """
    names = sorted(name.upper() for name in changed)
    # Names only: values may be secrets.
    facts = {"changed": names, "wrong": list(wrong), "unknown": list(unknown)}
    if wrong:
        remedy = "The other checks need valid settings. See docs/settings.md."
        return Finding("settings", Mark.BAD, " ".join(wrong), remedy, facts)
    found = f"set: {', '.join(names)}; others at defaults" if names else "all at defaults"
    if unknown:
        return Finding("settings", Mark.WARNING, found, " ".join(unknown), facts)
    return Finding("settings", Mark.GOOD, found, facts=facts)


def cli_finding(cli: Path, version: str) -> Finding:
    """Whether this Claude Code is the tested version; empty if it does not run."""
    facts = {"path": str(cli), "version": version, "tested": TESTED.cli}
    if not version:
        return Finding("claude", Mark.BAD, f"{cli} does not run.", REINSTALL, facts)
    if version != TESTED.cli:
        return Finding(
            "claude",
            Mark.WARNING,
            f"Claude Code {version}; tested with {TESTED.cli}",
            "The probe below reports what works. For the tested version, unset BRIDGE_CLAUDE_PATH "
            f"and run: pip install --no-deps claude-agent-sdk=={TESTED.sdk}",
            facts,
        )
    return Finding("claude", Mark.GOOD, f"Claude Code {version}, the tested version", facts=facts)


_LOG_IN = (
    "Run: bridge login. Or set CLAUDE_CODE_OAUTH_TOKEN (from `bridge login --token`). To try it "
    "without an account: bridge serve --demo"
)


def not_started(error: Exception) -> str:
    """Why Claude Code did not start, in a sentence for its user."""
    if isinstance(error, TimeoutError):
        return "Claude Code did not start in time."
    if isinstance(error, OSError):
        return f"Claude Code could not be started: {error.strerror or 'refused by the system'}."
    if isinstance(error, ControlError):
        return "Claude Code started, but did not respond as expected."
    cause = error.for_log if isinstance(error, ProcessGoneError) else ""
    return f"Claude Code exited during its start. {cause}".rstrip()


def login_finding(
    health: Health,
    *,
    plan: UsageLimits | None = None,
    uses_key: bool = False,
    payer: str = "",
) -> Finding:
    """Which account pays, or that of a payer of the operator's list; `plan` is what it has used."""
    windows = () if plan is None else plan.windows
    facts: dict[str, object] = {
        "usage": [
            {"limit": each.limit, "utilization": each.utilization, "resets_at": each.resets_at}
            for each in windows
        ],
        "logged_in": health.logged_in,
        "account": health.account,
        "plan": health.subscription,
        "simulated": health.simulated,
    }
    if health.simulated:
        return Finding("login", Mark.GOOD, "none: simulated model (--demo)", facts=facts)
    if not health.logged_in:
        remedy = f"Run: bridge login {payer}" if payer else _LOG_IN
        return Finding("login", Mark.BAD, "Claude Code is not logged in.", remedy, facts)
    found = f"{health.account} pays for every answer"
    if health.subscription:
        found += f" ({health.subscription})"
        used = ", ".join(f"{_words(each.limit)} {each.utilization:.0%}" for each in windows)
        found += f"; used: {used or 'known after the first answer'}"
    if uses_key:
        remedy = (
            "An API key is billed per token. To use your subscription, unset ANTHROPIC_API_KEY."
        )
        return Finding("login", Mark.WARNING, found, remedy, facts)
    return Finding("login", Mark.GOOD, found, facts=facts)


def _words(name: str) -> str:
    return name.replace("_", " ")


def probe_finding(report: Report) -> Finding:
    """Which of the required features this Claude Code has."""
    held = sum(report.found.values())
    found = (
        f"all {held} required features work"
        if not report.lacking
        else f"{held} of {len(report.found)} required features work"
    )
    lacking = missing(report)
    facts = {"held": held, "looked_for": len(report.found), "missing": list(lacking)}
    if lacking:
        return Finding(
            "probe",
            Mark.BAD,
            f"{found}; missing: {'; '.join(lacking)}",
            "For a version that works, unset BRIDGE_CLAUDE_PATH and run: "
            f"pip install --no-deps claude-agent-sdk=={TESTED.sdk}",
            facts,
        )
    if instead := fallbacks(report):
        remedy = "It works, but slower. A newer bridge may support this Claude Code fully."
        return Finding("probe", Mark.WARNING, f"{found}; {'; '.join(instead)}", remedy, facts)
    return Finding("probe", Mark.GOOD, found, facts=facts)


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a server that already listens on an address."""

    bridge: str | None = None
    """What a bridge reports about itself; None if it is not a bridge."""
    tls_problem: str = ""
    """Why there was no reply: the TLS connection failed."""


_NO_REPLY: Final = Reply()
_RESTART: Final = "If this is your bridge, restart it to use the certificate in BRIDGE_TLS_CERT. "


def port_finding(
    name: str, variable: str, host: str, port: int, problem: int | None, reply: Reply = _NO_REPLY
) -> Finding:
    """Whether a port can be listened on; `problem` is the errno, `reply` is from its current
    server.
    """
    bridge = reply.bridge
    facts = {"host": host, "port": port, "free": problem is None, "bridge": bridge is not None}
    where = f"{host}:{port}"
    if port == 0:
        return Finding(name, Mark.GOOD, f"any free port ({variable}=0)", facts=facts)
    if problem is None:
        return Finding(name, Mark.GOOD, f"{where} is free", facts=facts)
    if bridge is not None:
        return Finding(name, Mark.GOOD, f"{where} is served by a running bridge{bridge}", "", facts)
    if problem == errno.EADDRINUSE and reply.tls_problem:
        found = f"{where} is in use by a server that could not be checked: {reply.tls_problem}"
        remedy = f"{_RESTART}Otherwise, set {variable} to a free port."
        return Finding(name, Mark.WARNING, found, remedy, facts)
    if problem == errno.EADDRINUSE:
        remedy = f"Stop that program, or set {variable} to a free port."
        return Finding(name, Mark.BAD, f"{where} is in use by another program", remedy, facts)
    if problem == errno.EACCES:
        remedy = f"Set {variable} to a port from 1024 up."
        return Finding(name, Mark.BAD, f"{where} requires root privileges", remedy, facts)
    found = f"{where} is not available: {os.strerror(problem)}"
    return Finding(name, Mark.BAD, found, "Set HOST to an address of this machine.", facts)


def socket_finding(
    name: str, variable: str, path: Path, problem: str, reply: Reply = _NO_REPLY
) -> Finding:
    """Whether a Unix socket can be listened on; `reply` is from its current server."""
    bridge = reply.bridge
    facts = {"path": str(path), "free": not problem, "bridge": bridge is not None}
    if bridge is not None:
        return Finding(name, Mark.GOOD, f"{path} is served by a running bridge{bridge}", "", facts)
    if problem and reply.tls_problem:
        found = f"{path} is in use by a server that could not be checked: {reply.tls_problem}"
        remedy = f"{_RESTART}Otherwise, set {variable} to another path."
        return Finding(name, Mark.WARNING, found, remedy, facts)
    if problem:
        remedy = f"Set {variable} to another path."
        return Finding(name, Mark.BAD, f"{path}: {problem}", remedy, facts)
    return Finding(name, Mark.GOOD, f"{path} is free", facts=facts)


_SOON: Final = 14 * 86_400.0


def certificate_finding(not_after: float, now: float) -> Finding:
    """When the certificate expires; an expired one has been refused before."""
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(not_after))
    facts = {"not_after": not_after}
    if not_after - now < _SOON:
        remedy = "Renew it soon: clients and the next start refuse an expired certificate."
        return Finding("certificate", Mark.WARNING, f"expires on {until}", remedy, facts)
    return Finding("certificate", Mark.GOOD, f"valid until {until}", facts=facts)


def disk_finding(settings: Settings, writable: bool, free: int) -> Finding:
    """Whether the state folder is writable and has enough space."""
    folder = settings.bridge_state_dir
    logs = settings.bridge_session_log_megabytes * (settings.bridge_session_log_files + 1)
    need = round(logs * 1024 * 1024) if settings.session_log_path else 0
    need += _SPARE_DISK_BYTES
    facts = {"folder": str(folder), "writable": writable, "free": free, "needed": need}
    if not writable:
        remedy = "Make it writable, or set BRIDGE_STATE_DIR to a writable folder."
        return Finding("disk", Mark.BAD, f"{folder} is not writable", remedy, facts)
    found = f"{_size(free)} free for {folder}"
    if free < need:
        remedy = f"Up to {_size(need)} may be needed: see BRIDGE_SESSION_LOG_MEGABYTES."
        return Finding("disk", Mark.WARNING, found, remedy, facts)
    return Finding("disk", Mark.GOOD, found, facts=facts)


def memory_finding(pool_size: int, max_processes: int, available: int | None) -> Finding:
    """Whether the memory is enough for the configured processes."""
    need, most = pool_size * PROCESS_BYTES, max_processes * PROCESS_BYTES
    facts = {"available": available, "needed": need, "at_most": most}
    if available is None:
        found = f"unknown; {_size(need)} to {_size(most)} will be used"
        return Finding("memory", Mark.GOOD, found, facts=facts)
    found = f"{_size(available)} available; POOL_SIZE={pool_size} takes {_size(need)}"
    found += f", all processes at most {_size(most)}"
    if available < PROCESS_BYTES:
        return Finding("memory", Mark.BAD, found, "Free memory: not even one process fits.", facts)
    if available < most:
        remedy = "Lower POOL_SIZE or BRIDGE_MAX_PROCESSES, or free memory."
        return Finding("memory", Mark.WARNING, found, remedy, facts)
    return Finding("memory", Mark.GOOD, found, facts=facts)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
