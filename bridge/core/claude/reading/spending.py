"""What a process has spent, as the CLI reports it. Pure.

Measured on the CLI of the pinned SDK, and tested in tests/integration/claude/test_spending.py:

- `total_cost_usd` and `modelUsage` of a `result` are list prices (`costBasis: "list"`), cumulative
  over the life of the process: neither a rewound conversation, nor a replayed turn, nor a change of
  the model, sets them back or adds to them. The cost of a turn is the difference.
- A `result` follows the last `message_delta` within milliseconds. An interrupted turn has one too,
  with an estimate for the part of the answer that was read.
- A turn that waits for tool results has no `result` yet. `get_usage` returns the same sums at any
  time, with all upstream calls that have ended, even right after `message_delta`; it takes about a
  millisecond.
- A process that is killed reports nothing: what its open turn spent is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bridge.core.claude.wire import Wire
from bridge.core.contract import UNKNOWN_COST, Cost

_LEAST_USD: Final = 1e-12
"""Less than any token costs: smaller differences come from rounding."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process has spent so far, in US dollars."""

    usd: float = 0.0
    by_model: Wire = field(default_factory=dict)


def spent_in(result: Wire) -> Spent | None:
    """Return the sums of a `result` line; None if it has none."""
    return _spent(result.get("total_cost_usd"), result.get("modelUsage"))


def spent_in_report(report: Wire) -> Spent | None:
    """Return the sums of an answer to `get_usage`; None if it has none."""
    session = report.get("session")
    if not isinstance(session, dict):
        return None
    return _spent(session.get("total_cost_usd"), session.get("model_usage"))


def _spent(usd: object, models: object) -> Spent | None:
    if not isinstance(usd, int | float):
        return None
    by_model = {
        str(model): float(usage["costUSD"])
        for model, usage in (models.items() if isinstance(models, dict) else ())
        if isinstance(usage, dict) and isinstance(usage.get("costUSD"), int | float)
    }
    return Spent(float(usd), by_model)


class Spending:
    """What a process has spent, and the part of it that was booked to requests."""

    def __init__(self) -> None:
        self._booked: Spent | None = Spent()
        """None once it is unknown what was booked."""

    def unbooked(self, spent: Spent | None) -> Cost:
        """Return what was spent since the last booking; `spent` is the sum now, if known."""
        before = self._booked
        if spent is None or before is None:
            return UNKNOWN_COST
        costs = {m: usd - before.by_model.get(m, 0.0) for m, usd in spent.by_model.items()}
        return Cost(
            max(spent.usd - before.usd, 0.0),
            {model: usd for model, usd in costs.items() if usd > _LEAST_USD},
        )

    def book(self, spent: Spent | None) -> Cost:
        """Return the same, and start over from `spent`."""
        cost = self.unbooked(spent)
        self._booked = spent
        return cost
