"""The check of each payer: which account its Claude Code has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from bridge.core.claude import ControlError, ProcessGoneError
from bridge.core.engine import Engine, EngineOptions
from bridge.core.payers import Payer
from bridge.core.pool import PoolLimits
from bridge.core.system import OrphanGuard
from bridge.core.telemetry import Observers
from bridge.doctor.findings import Finding, Mark, login_finding, not_started
from bridge.server import Settings, StartError, claude_cli, make_launcher


async def check_payers(
    settings: Settings, payers: Sequence[Payer]
) -> AsyncGenerator[Finding, None]:
    """Yield a finding for each payer; raises StartError if there is no Claude Code.

    No request is sent: whether the API accepts the account shows with the first one.
    """
    cli = claude_cli(settings)
    async with AsyncExitStack() as stack:
        guard = await stack.enter_async_context(OrphanGuard())
        for payer in payers:
            yield await _check(cli, settings, guard, payer)


async def _check(cli: Path, settings: Settings, guard: OrphanGuard, payer: Payer) -> Finding:
    """Start a process of a payer, and return which account it has."""
    async with AsyncExitStack() as stack:
        try:
            launcher = make_launcher(cli, settings, None, guard, stack, payer)
        except StartError as error:
            return _finding(payer, Finding("", Mark.BAD, str(error)))
        options = EngineOptions(PoolLimits(1, 1, 0), system_prompt="")
        engine = Engine(launcher, options, Observers(()))
        stack.push_async_callback(engine.aclose)
        try:
            await engine.start()
        except (OSError, ControlError, ProcessGoneError) as error:
            return _finding(payer, Finding("", Mark.BAD, not_started(error)))
        await engine.plan_asked()
        state = engine.pool_state()
        found = login_finding(state.health, plan=state.plan, payer=payer.name)
        return _finding(payer, found)


def _finding(payer: Payer, found: Finding) -> Finding:
    facts = {**found.facts, "payer": payer.name, "kind": payer.kind}
    return replace(found, check=f"payer {payer.name}", facts=facts)


async def checked(settings: Settings, payers: Sequence[Payer]) -> list[Finding]:
    """Return the findings of all payers: the server works while one of them does."""
    findings = [finding async for finding in check_payers(settings, payers)]
    if all(finding.mark is Mark.BAD for finding in findings):
        return findings
    return [
        replace(finding, mark=Mark.WARNING) if finding.mark is Mark.BAD else finding
        for finding in findings
    ]
