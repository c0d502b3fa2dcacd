"""The state of several payers as one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bridge.core.contract import Health, HealthStatus, PoolState, Totals


def health_of(states: Mapping[str, Health]) -> Health:
    """Return the health of a server whose payers, by name, have these: well while any can serve.

    The account is that of the first one that can.
    """
    shown = next((each for each in states.values() if each.serving), None)
    shown = shown or next(iter(states.values()))
    processes: Counter[str] = Counter()
    for each in states.values():
        processes.update(each.processes)
    resumes = [each.resets_at for each in states.values() if each.resets_at is not None]
    details = [f"Payer {name}: {each.detail}" for name, each in states.items() if each.detail]
    return replace(
        shown,
        processes={state: processes[state] for state in shown.processes},
        waiting=sum(each.waiting for each in states.values()),
        detail=" ".join(details),
        resets_at=None if shown.serving else min(resumes, default=None),
    )


def without_keys(health: Health) -> Health:
    """Return the health of a server that does not know its keys yet."""
    if not health.serving:
        return health
    detail = "Its API keys are in Redis, which is unavailable, and are not known yet."
    return replace(health, status=HealthStatus.STARTING, detail=detail)


def totals_of(requests: Totals, states: Sequence[PoolState]) -> Totals:
    """Return the counts of requests with those of the processes of all payers."""
    replaced: Counter[str] = Counter()
    for state in states:
        replaced.update(state.totals.processes_replaced)
    return replace(
        requests,
        processes_started=sum(state.totals.processes_started for state in states),
        processes_ended=sum(state.totals.processes_ended for state in states),
        processes_replaced=dict(replaced),
    )
