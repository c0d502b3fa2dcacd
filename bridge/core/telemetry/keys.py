"""The metrics of API keys: who asked, who paid for it, what it used."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from bridge.core.telemetry.bounded import Bounded
from bridge.core.telemetry.request_record import RequestRecord


class KeyRequests:
    """Counts requests, tokens and cost by key and payer; nothing where no key is required."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._names = Bounded()
        self._requests = Counter(
            "bridge_key_requests",
            "Requests that ended, by key and by the payer that answered or was asked last.",
            ("key", "payer", "outcome"),
            registry=registry,
        )
        self._tokens = Counter(
            "bridge_key_tokens",
            "Tokens of complete answers by key and payer, the prompt cache included.",
            ("key", "payer", "kind"),
            registry=registry,
        )
        self._usd = Counter(
            "bridge_key_cost_usd",
            "List price of upstream calls in US dollars by key and payer.",
            ("key", "payer", "billed"),
            registry=registry,
        )

    def count(self, record: RequestRecord, outcome: str) -> None:
        """Count a request that has ended."""
        if not record.request.caller:
            return
        key = self._names.counted(record.request.caller)
        self._requests.labels(key, record.payer, outcome).inc()
        if record.usage is not None:
            self._tokens.labels(key, record.payer, "input").inc(record.usage.prompt_tokens)
            self._tokens.labels(key, record.payer, "output").inc(record.usage.output_tokens)

    def count_cost(self, record: RequestRecord) -> None:
        """Count the cost of a request that is booked."""
        if record.request.caller and record.cost.usd:
            key = self._names.counted(record.request.caller)
            self._usd.labels(key, record.payer, str(record.billed).lower()).inc(record.cost.usd)
