"""Requests by label: only labels that are named, and only so many values of each."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from bridge.core.contract.events import Finished, FinishReason
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.usage import Usage
from bridge.core.telemetry.bounded import MOST_VALUES
from bridge.core.telemetry.labelled_requests import LabelledRequests
from bridge.core.telemetry.metrics import Metrics
from bridge.core.telemetry.request_record import RequestRecord

USAGE = Usage(input_tokens=1, cache_read_tokens=2, cache_write_tokens=3, output_tokens=4)


def record(error: str = "", **labels: str) -> RequestRecord:
    ended = RequestRecord(CompletionRequest((), labels=labels), 0.0)
    ended.error = error
    if not error:
        ended.see(Finished(FinishReason.STOP, USAGE), 1.0)
    return ended


def test_requests_and_tokens_are_counted_by_the_values_of_the_named_labels() -> None:
    registry = CollectorRegistry()
    labelled = LabelledRequests(("team", "app"), registry)
    labelled.count(record(team="search", app="ios", private="secret"))
    labelled.count(record("QUEUE_FULL", team="search"))
    labelled.count(record())

    def requests(label: str, value: str, failed: str) -> float | None:
        names = {"label": label, "value": value, "failed": failed}
        return registry.get_sample_value("bridge_labelled_requests_total", names)

    assert requests("team", "search", "false") == 1
    assert requests("team", "search", "true") == 1
    assert requests("app", "ios", "false") == 1
    assert requests("private", "secret", "false") is None
    tokens = {
        kind: registry.get_sample_value(
            "bridge_labelled_tokens_total", {"label": "team", "value": "search", "kind": kind}
        )
        for kind in ("input", "output")
    }
    assert tokens == {"input": 6, "output": 4}


def test_values_beyond_the_limit_are_counted_together() -> None:
    registry = CollectorRegistry()
    labelled = LabelledRequests(("user",), registry)
    for number in range(MOST_VALUES + 3):
        labelled.count(record(user=f"u{number}"))
    labelled.count(record(user="u0"))

    def requests(value: str) -> float | None:
        names = {"label": "user", "value": value, "failed": "false"}
        return registry.get_sample_value("bridge_labelled_requests_total", names)

    assert (requests("u0"), requests("other")) == (2, 3)
    assert requests(f"u{MOST_VALUES}") is None


def test_without_a_setting_there_are_no_such_metrics() -> None:
    metrics = {named: Metrics(labels) for named, labels in ((False, ()), (True, ("team",)))}
    for named, each in metrics.items():
        each.began(record())
        each.ended(record(team="search"))
        text = each.render()[0].decode()
        assert ("bridge_labelled_requests" in text) is named
        assert ("search" in text) is named
