"""Builds the engine's inputs: the CLI, its capabilities, its launcher and its options."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bridge.core.answers import RecordingLimits
from bridge.core.claude import (
    NOTHING,
    OVERRULING,
    Capabilities,
    Credential,
    Launcher,
    hermetic_environment,
    passed_on,
    read_user_settings,
)
from bridge.core.contract import PayerKind
from bridge.core.engine import AtLimit, EngineOptions, ModelNames, TimeLimits
from bridge.core.payers import Payer, PayerError, PayerFile
from bridge.core.pool import PoolLimits
from bridge.core.system import OrphanGuard, is_loopback, private_folder
from bridge.probe import (
    ProbeError,
    Shipped,
    capabilities_of,
    fallbacks,
    missing,
    probe,
    report_for,
)
from bridge.server.refusals import read_refusals
from bridge.server.settings import Settings
from bridge.server.start_error import StartError

if TYPE_CHECKING:
    from bridge.simulator import Simulator

logger = logging.getLogger(__name__)


def claude_cli(settings: Settings) -> Path:
    """The CLI to run: BRIDGE_CLAUDE_PATH, else the SDK's; raises StartError if there is none."""
    return settings.claude_path() or bundled_cli()


def bundled_cli() -> Path:
    """The CLI bundled with the SDK; raises StartError if there is none."""
    spec = find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        raise StartError("claude-agent-sdk is not installed.")
    cli = Path(spec.origin).parent / "_bundled" / "claude"
    if not cli.is_file():
        raise StartError("This build of claude-agent-sdk bundles no claude CLI for your platform.")
    return cli


def make_launcher(
    cli: Path,
    settings: Settings,
    simulator: Simulator | None,
    guard: OrphanGuard,
    stack: AsyncExitStack,
    payer: Payer | None = None,
) -> Launcher:
    """Build the launcher of the CLI processes of a payer; the stack removes its folder.

    Without one, the account is the one of the operator's Claude Code. Raises StartError.
    """
    folder = _temporary_folder(stack)
    if simulator is not None:
        return _simulated(cli, settings, simulator, guard, folder)
    for name in sorted(OVERRULING.intersection(os.environ)):
        logger.warning(
            "%s is not passed on to Claude Code: it would override callers' parameters", name
        )
    sources = settings.bridge_setting_sources
    own: Mapping[str, str] = os.environ
    credential = None if payer is None else _credential(payer, settings.bridge_state_dir)
    if credential is not None:
        own = credential.environment(own)
    # Those of the payer, if it is a login.
    login = payer is None or payer.kind is PayerKind.LOGIN
    user_settings = read_user_settings(own if login else os.environ)
    user_settings = user_settings if "user" in sources else NOTHING
    if credential is not None:
        user_settings = credential.settings(user_settings)
    environment = {**own, **user_settings.environment}
    check_base_url(environment.get("ANTHROPIC_BASE_URL", ""), settings.host, settings.port)
    return Launcher(
        cli,
        passed_on(environment, settings.bridge_pass_env),
        folder,
        setting_sources=tuple(source for source in sources if source != "user"),
        user_settings=user_settings,
        use_api_key=settings.bridge_use_api_key if payer is None else not login,
        builtin_tools=settings.builtin_tools(),
        guard=guard,
    )


def _temporary_folder(stack: AsyncExitStack) -> Path:
    # A process that is exiting may still write to it.
    made = tempfile.TemporaryDirectory(prefix="claude-code-bridge-", ignore_cleanup_errors=True)
    return Path(stack.enter_context(made))


def _simulated(
    cli: Path, settings: Settings, simulator: Simulator, guard: OrphanGuard, folder: Path
) -> Launcher:
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    return Launcher(
        cli,
        hermetic_environment(os.environ, home, simulator.base_url),
        work,
        builtin_tools=settings.builtin_tools(),
        guard=guard,
    )


def _credential(payer: Payer, state: Path) -> Credential:
    """How a payer logs in; raises StartError."""
    folder = payer.config_folder(state)
    try:
        if folder is not None:
            private_folder(folder)
        return Credential(payer.kind, folder, payer.secret())
    except PayerError as error:
        raise StartError(str(error)) from error
    except OSError as error:
        raise StartError(
            f"Payer {payer.name}: the folder {folder} cannot be used: {error.strerror}."
        ) from error


def named_payers(settings: Settings) -> tuple[Payer, ...]:
    """The operator's list of payers, which may be empty; raises StartError."""
    try:
        payers = PayerFile(settings.bridge_state_dir).read()
    except PayerError as error:
        raise StartError(str(error)) from error
    if len(payers) > settings.max_processes:
        raise StartError(
            f"There are {len(payers)} payers, but at most {settings.max_processes} processes: each "
            f"payer needs one. Set BRIDGE_MAX_PROCESSES to at least {len(payers)}."
        )
    return payers


def check_base_url(base_url: str, host: str, port: int) -> None:
    """Raise StartError if Claude Code would send its requests to this very server.

    Users set this variable to have their own Claude Code use the bridge.
    """
    url = urlsplit(base_url)
    try:
        name, at = url.hostname or "", url.port or {"http": 80, "https": 443}.get(url.scheme)
    except ValueError:
        return
    if at == port and (is_loopback(name) or name == host.strip("[]")):
        raise StartError(
            "ANTHROPIC_BASE_URL is the address of this server, so its own Claude Code would ask it "
            "in turn, without end. Unset it for the server (in the environment and in "
            "~/.claude/settings.json); set it only for the Claude Code that is to use the server."
        )


async def cli_capabilities(
    cli: Path, settings: Settings, guard: OrphanGuard, say: Callable[[str], None]
) -> Capabilities:
    """The capabilities of this CLI, probed if it is not known yet.

    Raises StartError if a required feature is missing.
    """
    try:
        report = await report_for(
            cli, settings.bridge_state_dir, probing=partial(probe, guard=guard), say=say
        )
    except (ProbeError, OSError) as error:
        logger.exception("probing Claude Code failed")
        raise not_started(error) from error
    lacking = missing(report)
    if lacking:
        raise StartError(
            f"{cli} (Claude Code {report.cli_version or 'unknown version'}) lacks required "
            "features:\n"
            + "".join(f"  - {sentence}\n" for sentence in lacking)
            + "Unset BRIDGE_CLAUDE_PATH to use the Claude Code bundled with "
            f"claude-agent-sdk=={Shipped.read().sdk}."
        )
    for fallback in fallbacks(report):
        logger.warning("this Claude Code lacks %s", fallback)
    logger.info(
        "Claude Code %s: %d of %d required features work",
        report.cli_version,
        sum(report.found.values()),
        len(report.found),
    )
    return capabilities_of(report)


def not_started(error: Exception) -> StartError:
    return StartError(
        f"Claude Code could not be started: {type(error).__name__}. Run `bridge login` to see "
        "whether it works on this machine."
    )


def time_limits(settings: Settings) -> TimeLimits:
    """Return the limits on every request; 0 means none."""

    def of_answer(seconds: float | None) -> float:
        return settings.claude_timeout if seconds is None else seconds or math.inf

    return TimeLimits(
        total=settings.bridge_answer_timeout or math.inf,
        queue=settings.bridge_queue_timeout or math.inf,
        first_token=of_answer(settings.bridge_first_token_timeout),
        idle=of_answer(settings.bridge_idle_timeout),
    )


def engine_options(settings: Settings, *, demo: bool) -> EngineOptions:
    return EngineOptions(
        limits=PoolLimits(
            settings.pool_size,
            settings.max_processes,
            settings.bridge_spares,
            park_seconds=settings.bridge_park_seconds,
        ),
        time_limits=time_limits(settings),
        queue_size=settings.bridge_queue_size,
        system_prompt=settings.system_prompt(),
        models=ModelNames(
            aliases=settings.bridge_model_aliases,
            refuse_unknown=settings.bridge_unknown_model == "error",
        ),
        log_bodies=settings.bridge_session_log == "full",
        simulated=demo,
        stop_before_overage=settings.bridge_stop_before_overage,
        at_limit=AtLimit.UNHEALTHY if settings.bridge_health_usage_limits else AtLimit.HEALTHY,
        recordings=RecordingLimits(
            settings.bridge_detached_seconds,
            total_bytes=settings.bridge_detached_megabytes * 1024 * 1024,
        ),
        known_refusals={} if demo else read_refusals(settings.bridge_state_dir),
    )
