"""The checks of `bridge doctor`, in order."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import (
    AsyncGenerator,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from bridge.core.claude import ControlError, Launcher, ProcessGoneError
from bridge.core.engine import Engine, EngineOptions
from bridge.core.payers import Payer
from bridge.core.pool import PoolLimits
from bridge.core.system import OrphanGuard
from bridge.core.telemetry import Observers
from bridge.doctor.findings import (
    REINSTALL,
    Finding,
    Mark,
    cli_finding,
    disk_finding,
    login_finding,
    memory_finding,
    not_started,
    probe_finding,
    python_finding,
    settings_finding,
)
from bridge.doctor.listening import listening_findings
from bridge.doctor.machine import available_memory, disk_of
from bridge.doctor.payers import checked
from bridge.doctor.proving import live_findings
from bridge.doctor.redis import redis_findings
from bridge.probe import ProbeError, report_for
from bridge.server import (
    Settings,
    StartError,
    claude_cli,
    make_launcher,
    named_payers,
    unknown_variables,
    wrong_values,
)

_VERSION_SECONDS: Final = 60.0


_NO_FLAGS: Final[Mapping[str, Any]] = {}


async def examine(
    *,
    demo: bool = False,
    live: bool = False,
    agreed: Callable[[str], bool] = lambda account: True,
) -> AsyncGenerator[Finding, None]:
    """Run all checks; with `live` also test what the account and its models accept.

    The live test costs money, so `agreed` is called first, with the account that pays.
    """
    yield python_finding(sys.version_info[:3], sys.platform)
    try:
        settings = Settings(**_NO_FLAGS)
    except ValidationError as error:
        yield settings_finding(wrong=wrong_values(error))
        return
    yield settings_finding(settings.model_fields_set, unknown=unknown_variables(os.environ))
    async with AsyncExitStack() as stack:
        try:
            cli = claude_cli(settings)
        except StartError as error:
            yield Finding("claude", Mark.BAD, str(error), REINSTALL)
            return
        try:
            payers = () if demo else named_payers(settings)
            launcher = await _launcher(cli, settings, stack, payers, demo=demo)
        except StartError as error:
            yield Finding("payers", Mark.BAD, str(error))
            return
        yield cli_finding(cli, await _version_of(launcher))
        options = EngineOptions(PoolLimits(1, 1, 0), system_prompt="", simulated=demo)
        engine = Engine(launcher, options, Observers(()))
        stack.push_async_callback(engine.aclose)
        login, ready = await _start(engine, launcher)
        for finding in await checked(settings, payers) if payers else [login]:
            yield finding
        yield await _probe_finding(cli, settings)
        for findings in (listening_findings(settings), redis_findings(settings)):
            async for finding in findings:
                yield finding
        yield disk_finding(settings, *disk_of(settings.bridge_state_dir))
        yield memory_finding(settings.pool_size, settings.max_processes, available_memory())
        if live and ready is not None and agreed(engine.health().account):
            async for finding in live_findings(engine, settings, ready, demo=demo):
                yield finding


async def _start(engine: Engine, launcher: Launcher) -> tuple[Finding, float | None]:
    """Start the engine; return the finding about the login, and the seconds it took (None if it
    failed).
    """
    began = time.perf_counter()
    try:
        await engine.start()
    except (OSError, ControlError, ProcessGoneError) as error:
        remedy = "Run it manually to see whether it works: bridge login"
        return Finding("login", Mark.BAD, not_started(error), remedy), None
    ready = time.perf_counter() - began
    await engine.plan_asked()
    plan = engine.pool_state().plan
    return login_finding(engine.health(), plan=plan, uses_key=_uses_key(launcher, engine)), ready


async def _version_of(launcher: Launcher) -> str:
    """The output of `claude --version`, without the rest of its line; empty if it does not run."""
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
    cli: Path, settings: Settings, stack: AsyncExitStack, payers: Sequence[Payer], *, demo: bool
) -> Launcher:
    """The launcher of the first payer's processes."""
    guard = await stack.enter_async_context(OrphanGuard())
    if not demo:
        payer = payers[0] if payers else None
        return make_launcher(cli, settings, None, guard, stack, payer)
    from bridge.simulator import Simulator

    simulator = await stack.enter_async_context(Simulator())
    return make_launcher(cli, settings, simulator, guard, stack)


def _uses_key(launcher: Launcher, engine: Engine) -> bool:
    return launcher.has_api_key and engine.health().account == "ANTHROPIC_API_KEY"


async def _probe_finding(cli: Path, settings: Settings) -> Finding:
    try:
        return probe_finding(await report_for(cli, settings.bridge_state_dir))
    except (ProbeError, OSError) as error:
        remedy = "Run it manually to see whether it works: bridge login"
        return Finding("probe", Mark.BAD, not_started(error), remedy)
