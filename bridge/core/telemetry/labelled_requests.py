"""Requests by the labels of their callers, as metrics: those that the operator names, no others."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from bridge.core.telemetry.bounded import Bounded
from bridge.core.telemetry.request_record import RequestRecord


class LabelledRequests:
    """Counts requests and their tokens by the values of labels."""

    def __init__(self, names: Iterable[str], registry: CollectorRegistry) -> None:
        """`names` are the labels that are counted; without any, there are no metrics."""
        self._values = {name: Bounded() for name in names}
        self._requests = Counter(
            "bridge_labelled_requests",
            "Requests that ended, by the callers' labels in BRIDGE_METRIC_LABELS; failed ones have "
            "an error.",
            ("label", "value", "failed"),
            registry=registry if self._values else None,
        )
        self._tokens = Counter(
            "bridge_labelled_tokens",
            "Tokens of complete answers by the same labels, the prompt cache included.",
            ("label", "value", "kind"),
            registry=registry if self._values else None,
        )

    def count(self, record: RequestRecord) -> None:
        """Count a request that has ended."""
        if not self._values:
            return
        usage = record.usage
        for label, value in record.labels.items():
            if label not in self._values:
                continue
            counted = self._values[label].counted(value)
            self._requests.labels(label, counted, "true" if record.error else "false").inc()
            if usage is not None:
                self._tokens.labels(label, counted, "input").inc(usage.prompt_tokens)
                self._tokens.labels(label, counted, "output").inc(usage.output_tokens)
