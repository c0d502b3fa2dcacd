"""The metrics of what requests cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

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


BudgetShares: TypeAlias = Callable[[], Iterable[tuple[str, str, float]]]
"""Returns the name of a key, the name of one of its budgets, and the used share of it."""


class Budgets(Collector):
    """How much of its budgets each key has used, read when the metrics are."""

    def __init__(self, used: BudgetShares) -> None:
        self._used = used

    def describe(self) -> Iterator[Metric]:
        """Nothing: the keys may change."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One series for each budget of a key: the operator makes them, not the callers."""
        family = GaugeMetricFamily(
            "bridge_key_budget_used_ratio",
            "The used share of a key's budget.",
            labels=("key", "budget"),
        )
        for key, budget, share in self._used():
            family.add_metric((key, budget), share)
        if family.samples:
            yield family
