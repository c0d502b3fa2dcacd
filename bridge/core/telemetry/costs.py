"""The metrics of what requests cost."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter

from bridge.core.telemetry.request_record import RequestRecord

OTHER: Final = "other"
"""The label of every model that Claude Code does not offer: callers choose the names."""


class Costs:
    """Counts the cost of requests by model and payer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._usd = Counter(
            "bridge_cost_usd",
            "List price of upstream calls in US dollars, as Claude Code computes it; a "
            "subscription is not billed for it.",
            ("model", "payer", "billed"),
            registry=registry,
        )
        self._unknown = Counter(
            "bridge_unknown_costs",
            "Requests whose cost is unknown: their process was killed.",
            registry=registry,
        )

    def count(self, record: RequestRecord) -> None:
        """Count a request that is booked."""
        cost, billed = record.cost, str(record.billed).lower()
        for model, usd in cost.by_model.items():
            # Claude Code may write a model's name in another way than the API.
            own = model == record.model or len(cost.by_model) == 1
            label = record.offered_model if own and record.offered_model else OTHER
            self._usd.labels(label, record.payer, billed).inc(usd)
        if not cost.known:
            self._unknown.inc()
