from __future__ import annotations

from prometheus_client import CollectorRegistry

from bridge.core.contract.events import Finished, FinishReason
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.usage import UNKNOWN_COST, Cost, Usage
from bridge.core.telemetry.bounded import MOST_VALUES
from bridge.core.telemetry.keys import KeyRequests
from bridge.core.telemetry.request_record import RequestRecord


def record(key: str, payer: str = "team") -> RequestRecord:
    made = RequestRecord(CompletionRequest((), caller=key), 0.0)
    made.payer = payer
    made.see(Finished(FinishReason.STOP, Usage(1, 2, 3, 4)), 1.0)
    return made


def test_requests_tokens_and_cost_are_counted_by_key_and_payer() -> None:
    registry = CollectorRegistry()
    keys = KeyRequests(registry)
    for each in (record("phone"), record("phone"), record("phone", "mine"), record("")):
        keys.count(each, "stop")
        each.cost = Cost(0.5, {"claude-opus-9": 0.5})
        keys.count_cost(each)
    killed = record("laptop")
    killed.cost = UNKNOWN_COST
    keys.count_cost(killed)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"bridge_key_{name}_total", labels)

    assert value("requests", key="phone", payer="team", outcome="stop") == 2
    assert value("requests", key="phone", payer="mine", outcome="stop") == 1
    assert value("tokens", key="phone", payer="team", kind="input") == 12
    assert value("tokens", key="phone", payer="team", kind="output") == 8
    assert value("cost_usd", key="phone", payer="team", billed="false") == 1.0
    labels = {s.labels["key"] for family in registry.collect() for s in family.samples}
    # Without a key there is no series.
    assert labels == {"phone"}


def test_keys_beyond_the_limit_are_counted_together() -> None:
    registry = CollectorRegistry()
    keys = KeyRequests(registry)
    for number in range(MOST_VALUES + 3):
        keys.count(record(f"key{number}"), "stop")
    names = {"key": "other", "payer": "team", "outcome": "stop"}
    assert registry.get_sample_value("bridge_key_requests_total", names) == 3
