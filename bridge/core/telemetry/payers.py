"""The metrics of payers: what each answered, and whether it can serve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from bridge.core.contract import PayerState
from bridge.core.telemetry.request_record import RequestRecord


class PayerRequests:
    """Counts requests by payer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "bridge_payer_requests",
            "Requests that ended, by the payer that answered or was asked last.",
            ("payer", "outcome"),
            registry=registry,
        )

    def count(self, record: RequestRecord, outcome: str) -> None:
        """Count a request that has ended."""
        self._requests.labels(record.payer, outcome).inc()


def of_payers(payers: Sequence[PayerState]) -> Iterator[Metric]:
    """The state of several payers; nothing without a list of them."""
    if not payers:
        return
    serving = GaugeMetricFamily(
        "bridge_payer_serving", "Whether a payer is expected to serve.", labels=("payer",)
    )
    limited = GaugeMetricFamily(
        "bridge_payer_limited_models",
        "Models that a payer does not serve at present, because of a limit or its login.",
        labels=("payer",),
    )
    utilization = GaugeMetricFamily(
        "bridge_payer_utilization_ratio",
        "The used share of a usage limit of a payer.",
        labels=("payer", "limit"),
    )
    for payer in payers:
        for window in () if payer.plan is None else payer.plan.windows:
            utilization.add_metric((payer.name, window.limit), window.utilization)
        serving.add_metric((payer.name,), int(payer.health.serving))
        limited.add_metric((payer.name,), len(payer.limited))
    yield from (serving, limited, utilization)
