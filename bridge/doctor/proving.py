"""`bridge doctor --live`: consent, findings, and the report."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from bridge.core.engine import Engine
from bridge.core.system import private_folder, replace_file
from bridge.doctor.findings import Finding, Mark
from bridge.doctor.live import Outcome, Proof, Result, prove
from bridge.doctor.report import report_of
from bridge.doctor.trials import TRIALS
from bridge.server import Settings, write_refusals

REPORT_NAME: Final = "live-report.json"
_REMEDIES: Final = {
    Outcome.DONE_WITHOUT: "Nothing to do: such requests are answered without it and report that.",
    Outcome.OTHERWISE: "Answers to requests that need this may be worse.",
    Outcome.REFUSED: "Requests that use this fail for this account or model.",
    Outcome.FAILED: "Try again later: the result is unknown.",
}


def question(account: str) -> str:
    """The question that asks the user for consent."""
    return (
        f"--live sends about ten requests with short answers, which {account} pays for. The first "
        "writes 5,000 tokens to the prompt cache; most others read them. Continue?"
    )


async def live_findings(
    engine: Engine, settings: Settings, ready: float, *, demo: bool
) -> AsyncGenerator[Finding, None]:
    """Run the trials, write the report, and store refusals for the next start.

    `ready` is the time in seconds that the first process took. In a demo nothing is stored.
    """
    proof = Proof()
    async for result in prove(engine, proof):
        yield result_finding(result, ready)
    yield _limits_finding(proof)
    yield cost_finding(proof)
    if demo:
        return
    models = sorted({model.resolved for model in await engine.models()})
    report = report_of(
        proof, engine.health(), models, day=time.strftime("%Y-%m-%d"), home=Path.home()
    )
    file = settings.bridge_state_dir / REPORT_NAME
    try:
        private_folder(file.parent)
        replace_file(file, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        if proof.results[0].outcome is not Outcome.FAILED:
            write_refusals(settings.bridge_state_dir, proof.refused)
    except OSError as error:
        found = f"{file} cannot be written: {error.strerror}"
        yield Finding("report", Mark.WARNING, found, "See the disk check above.")
        return
    found = f"{file}: redacted; review it before you attach it to an issue"
    yield Finding("report", Mark.GOOD, found, facts={"path": str(file)})


def result_finding(result: Result, ready: float) -> Finding:
    """The finding of a trial. Only if the first one fails, it is BAD."""
    facts = {
        "outcome": result.outcome,
        "model": result.model,
        "session": result.session,
        "ready_seconds": round(ready, 3),
        "first_token_seconds": None
        if result.first_seconds is None
        else round(result.first_seconds, 3),
        "total_seconds": round(result.seconds, 3),
        "prompt_tokens": result.usage.prompt_tokens,
        "cached_tokens": result.usage.cache_read_tokens,
        "output_tokens": result.usage.output_tokens,
    }
    found = f"{result.sentence}: {result.outcome}"
    if result.detail:
        found += f" ({result.detail})"
    if result.outcome is Outcome.ACCEPTED:
        found += f", {result.seconds:.2f} s"
        return Finding(result.trial, Mark.GOOD, found, facts=facts)
    answered = result.outcome in (Outcome.DONE_WITHOUT, Outcome.OTHERWISE)
    nothing = result.trial == TRIALS[0].id and not answered
    remedy = (
        "The other requests were skipped. See the checks above, or run `bridge login`."
        if nothing
        else _REMEDIES[result.outcome]
    )
    return Finding(result.trial, Mark.BAD if nothing else Mark.WARNING, found, remedy, facts)


def _limits_finding(proof: Proof) -> Finding:
    limits = proof.limits
    if limits is None:
        found = "usage limits: the API reported none for this account"
        return Finding("limits", Mark.GOOD, found, facts={"status": None})
    found = f"usage limits: {limits.status.replace('_', ' ')}"
    return Finding("limits", Mark.GOOD, found, facts={"status": limits.status})


def cost_finding(proof: Proof) -> Finding:
    """The cost of the trials."""
    facts = {"requests": len(proof.results), "tokens": proof.tokens, "cost_usd": proof.cost_usd}
    found = f"{len(proof.results)} requests, {proof.tokens} tokens"
    if proof.cost_usd is not None:
        found += f"; ${proof.cost_usd:.4f} at list prices, by Claude Code's own estimate"
    return Finding("cost", Mark.GOOD, found, facts=facts)
