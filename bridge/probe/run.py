"""Tests a CLI against the list."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bridge.core.claude import ProcessGoneError
from bridge.core.system import OrphanGuard
from bridge.probe.behaviours import BEHAVIOURS
from bridge.probe.checks.check import NO_REWIND, Behaviour
from bridge.probe.report import Report
from bridge.probe.stage import Lacking, NoProcessError, Stage

logger = logging.getLogger(__name__)

CHECK_TIMEOUT = 30.0
"""Seconds that one check may take; most take less than a tenth of a second."""


class ProbeError(Exception):
    """The CLI does not run at all, so nothing can be tested."""


async def probe(
    cli: Path,
    behaviours: Sequence[Behaviour] = BEHAVIOURS,
    *,
    timeout: float = CHECK_TIMEOUT,
    guard: OrphanGuard | None = None,
) -> Report:
    """Test which of the behaviours this CLI has. Raises ProbeError if it does not run.

    `guard` ends its processes if the server is killed.
    """
    # Imported here, because only a probe needs it.
    from bridge.simulator import Simulator

    with tempfile.TemporaryDirectory(
        # A terminating process may still write into it.
        prefix="claude-code-bridge-probe-",
        ignore_cleanup_errors=True,
    ) as folder:
        async with Simulator(pace_ms=0) as simulator:
            stage = Stage(cli, Path(folder), simulator, guard)
            try:
                return await _seen(stage, behaviours, timeout)
            finally:
                await stage.aclose()


async def _seen(stage: Stage, behaviours: Sequence[Behaviour], timeout: float) -> Report:
    found: dict[str, bool] = {}
    details: dict[str, str] = {}
    for behaviour in behaviours:
        problem = await _tried(stage, behaviour.check, timeout)
        found[behaviour.id] = problem is None
        if problem is None:
            continue
        details[behaviour.id] = problem
        logger.warning("this Claude Code lacks %s: %s", behaviour.id, problem)
        if behaviour.fallback == NO_REWIND:
            stage.capabilities = replace(stage.capabilities, rewind=False)
    return Report(stage.cli_version, found, details)


async def _tried(
    stage: Stage, check: Callable[[Stage], Awaitable[None]], timeout: float
) -> str | None:
    """Return why the behaviour was not observed, or None if it was.

    An observed difference is final. A check that was aborted is repeated with new processes, since
    the machine may have been the cause.
    """
    problem = ""
    for _ in range(2):
        try:
            async with asyncio.timeout(timeout):
                await check(stage)
        except Lacking as lacking:
            await stage.discard()
            return str(lacking)
        except NoProcessError:
            return problem or "no process started"
        except Exception as error:
            await stage.discard()
            # ControlTimeoutError may be an OSError, but not one about the process.
            in_time = not isinstance(error, TimeoutError)
            if in_time and isinstance(error, OSError | ProcessGoneError) and not stage.ever_ran:
                raise ProbeError(f"{type(error).__name__}: {error}") from error
            problem = repr(error)
        else:
            await stage.settle()
            return None
    return problem
