"""`bridge doctor --live`: what the account and its models accept of what the bridge sends.

Each trial is a request of a few tokens that goes through an engine like any caller's. Its outcome
follows from what the engine learned from a refusal, and from the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from bridge.core.contract import BridgeError, CompletionRequest, Usage, UsageLimits
from bridge.core.engine import Engine
from bridge.doctor.trials import Before, Reply, Trial, trials_of

_SETTLE_SECONDS: Final = 60.0
_CHANGING: Final = ("starting", "preparing", "running", "resetting", "closing")


class Outcome(StrEnum):
    """The outcome of a trial."""

    ACCEPTED = "accepted"
    DONE_WITHOUT = "refused, answered without it"
    """The API refuses the field; the request was answered without it."""
    OTHERWISE = "answered, but not as requested"
    REFUSED = "refused"
    """Requests of this kind fail."""
    FAILED = "failed"
    """The request failed for a reason unrelated to the feature."""


@dataclass(frozen=True, slots=True)
class Result:
    """A trial and its outcome."""

    trial: str
    sentence: str
    outcome: Outcome
    model: str = ""
    detail: str = ""
    session: str = ""
    """How it got its session; empty if it did not."""
    seconds: float = 0.0
    first_seconds: float | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class Proof:
    """All results."""

    results: list[Result] = field(default_factory=list)
    refused: dict[str, frozenset[str]] = field(default_factory=dict)
    """Fields by the full name of the model."""
    limits: UsageLimits | None = None
    """The account's usage limits, if the API reported them."""
    cost_usd: float | None = None
    """Claude Code's own estimate, if it gave one."""

    @property
    def tokens(self) -> int:
        """The tokens of all requests, prompts and answers."""
        return sum(result.usage.total_tokens for result in self.results)


async def prove(engine: Engine, proof: Proof) -> AsyncGenerator[Result, None]:
    """Run the trials in turn, and add the results to `proof`.

    If the first one fails for another reason than what it tests, the others are skipped.
    """
    costs: dict[int, float] = {}
    before: Before = {}
    trials = trials_of(await engine.models())
    for trial in trials:
        request = trial.request(before)
        if request is None:
            continue
        result = await _made(engine, trial, request, before)
        await _settled(engine)
        for session in engine.pool.sessions():
            if session.spent_usd is not None:
                costs[session.pid] = session.spent_usd
        proof.results.append(result)
        proof.refused = engine.refusals()
        proof.limits = engine.pool_state().plan
        proof.cost_usd = round(sum(costs.values()), 6) if costs else None
        yield result
        if trial is trials[0] and result.outcome in (Outcome.FAILED, Outcome.REFUSED):
            return


async def _made(engine: Engine, trial: Trial, request: CompletionRequest, before: Before) -> Result:
    known, sessions = engine.refusals(), engine.pool_state().totals.sessions
    began = time.perf_counter()
    reply = Reply()
    outcome, detail = Outcome.ACCEPTED, ""
    try:
        async with aclosing(engine.complete(request)) as events:
            async for event in events:
                reply.add(event, time.perf_counter() - began)
    except BridgeError as error:
        refused = error.reason == "UPSTREAM_REFUSED"
        outcome, detail = Outcome.REFUSED if refused else Outcome.FAILED, error.message
    else:
        before[trial.id] = (request, reply)
        fields = _learned(known, engine.refusals()) | {*reply.ignored}
        missed = ", ".join(sorted(fields & trial.fields))
        amiss = trial.otherwise(reply)
        detail = "; ".join(filter(None, (missed and f"refused: {missed}", amiss)))
        if detail:
            outcome = Outcome.OTHERWISE if amiss else Outcome.DONE_WITHOUT
    return Result(
        trial.id,
        trial.sentence,
        outcome,
        reply.model,
        detail,
        _got(sessions, engine.pool_state().totals.sessions),
        time.perf_counter() - began,
        reply.first_seconds,
        reply.usage,
    )


def _got(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    return next((kind for kind, count in after.items() if count > before.get(kind, 0)), "")


def _learned(before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]) -> frozenset[str]:
    new = (fields - before.get(model, frozenset()) for model, fields in after.items())
    return frozenset[str]().union(*new)


async def _settled(engine: Engine) -> None:
    """Wait until the turn is over: its cost and the account's limits arrive after its answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SETTLE_SECONDS):
            await engine.pool.wait_for(lambda counts: not any(counts[s] for s in _CHANGING))
