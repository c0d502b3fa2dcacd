"""The metrics: what is counted, and how Prometheus finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import prometheus_client
from openai import OpenAI
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from bridge.core.contract.events import Finished, FinishReason, Started, TextDelta
from bridge.core.contract.request import CompletionRequest
from bridge.core.contract.states import (
    Health,
    HealthStatus,
    PoolState,
    ReplacementReason,
    SessionSource,
    Totals,
    UsageLimits,
    UsageWindow,
)
from bridge.core.contract.usage import UNKNOWN_COST, Cost, Usage
from bridge.core.telemetry.costs import OTHER
from bridge.core.telemetry.metrics import Metrics
from bridge.core.telemetry.request_record import RequestRecord
from tests.support.harness import PATIENCE, RunningBridge, sim, user

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def value(told: Samples, name: str, **labels: str) -> float:
    """A sample; 0 where it was never counted."""
    return told.get((name, frozenset(labels.items())), 0.0)


def rendered(metrics: Metrics) -> Samples:
    return samples(metrics.render()[0].decode())


def record(
    api: str = "http", offered: str = "claude-opus-9", error: str = "", ended_at: float = 100.0
) -> RequestRecord:
    made = RequestRecord(CompletionRequest((user("hi"),), api=api), 100.0)
    made.offered_model, made.error, made.times.ended_at = offered, error, ended_at
    return made


def answered(*moments: float, offered: str = "claude-opus-9") -> RequestRecord:
    """A request whose parts came at these moments and that ended with the last of them."""
    made = record(offered=offered)
    made.leased(SessionSource.WARM, 100.2)
    made.see(Started("claude-opus-9"), moments[0])
    for moment in moments:
        made.see(TextDelta("x"), moment)
    made.see(Finished(FinishReason.STOP, Usage(3, 40, 5, 7)), moments[-1])
    made.times.ended_at = moments[-1]
    return made


def test_a_request_is_in_flight_until_it_has_ended_and_counted_by_how() -> None:
    metrics = Metrics()
    one, other = answered(101.0), record("grpc", error="QUEUE_FULL", ended_at=100.5)
    metrics.began(one)
    metrics.began(other)
    told = rendered(metrics)
    assert value(told, "bridge_requests_in_flight", api="http") == 1
    assert value(told, "bridge_requests_in_flight", api="grpc") == 1
    metrics.ended(one)
    metrics.ended(other)
    told = rendered(metrics)
    assert value(told, "bridge_requests_in_flight", api="http") == 0
    model = "claude-opus-9"
    name = "bridge_requests_total"
    assert value(told, name, api="http", model=model, outcome="stop") == 1
    assert value(told, name, api="grpc", model=model, outcome="queue_full") == 1


def test_times_are_in_buckets_that_hold_those_below() -> None:
    metrics = Metrics()
    # Gaps of 20 ms, 20 ms and 3 s.
    metrics.ended(answered(100.75, 100.77, 100.79, 103.79))
    told = rendered(metrics)
    model = "claude-opus-9"
    gap = "bridge_token_gap_seconds"
    for le, count in (("0.01", 0), ("0.025", 2), ("2.5", 2), ("5.0", 3), ("+Inf", 3)):
        assert value(told, f"{gap}_bucket", model=model, le=le) == count, le
    assert round(value(told, f"{gap}_sum", model=model), 6) == 3.04
    assert value(told, f"{gap}_count", model=model) == 3
    first = "bridge_time_to_first_token_seconds"
    for le, count in (("0.5", 0), ("1.0", 1), ("+Inf", 1)):
        assert value(told, f"{first}_bucket", model=model, le=le) == count, le
    assert value(told, "bridge_request_duration_seconds_sum", model=model) == 103.79 - 100
    assert round(value(told, "bridge_queue_seconds_sum", session="warm"), 6) == 0.2


def test_a_request_that_never_got_so_far_is_in_no_histogram_of_it() -> None:
    metrics = Metrics()
    metrics.ended(record(error="QUEUE_FULL"))
    told = rendered(metrics)
    assert not any("first_token" in name or "queue_seconds" in name for name, _ in told)


def test_tokens_are_counted_by_kind() -> None:
    metrics = Metrics()
    metrics.ended(answered(101.0))
    metrics.ended(answered(101.0))
    told = rendered(metrics)
    kinds = {"input": 6, "cache_read": 80, "cache_write": 10, "output": 14}
    for kind, count in kinds.items():
        assert value(told, "bridge_tokens_total", model="claude-opus-9", kind=kind) == count


def test_calls_that_claude_code_makes_by_itself_are_counted() -> None:
    metrics = Metrics()
    for unseen in (0, 1, 2):
        ended = answered(101.0)
        ended.unseen_calls = unseen
        metrics.ended(ended)
    assert value(rendered(metrics), "bridge_unseen_calls_total", model="claude-opus-9") == 3


def test_every_name_that_is_not_on_offer_is_one_label() -> None:
    metrics = Metrics()
    for _ in range(100):
        metrics.ended(record(offered="", error="MODEL_NOT_FOUND"))
    told = rendered(metrics)
    (labels,) = [labels for name, labels in told if name == "bridge_requests_total"]
    assert dict(labels)["model"] == OTHER


LIMITS = ("five_hour", "seven_day")


class Watched:
    def __init__(self, plan: UsageLimits | None = None) -> None:
        health = Health(HealthStatus.OK, True, "subscription", "2.1.0", pool_size=3, waiting=4)
        totals = Totals(processes_started=9, processes_replaced={"died": 2})
        self._state = PoolState(health, 6, totals, plan)

    def pool_state(self) -> PoolState:
        return self._state


def test_usage_limits_are_sent_once_they_are_known() -> None:
    metrics = Metrics()
    metrics.watch(Watched())
    assert not any("plan" in name for name, _ in rendered(metrics))
    metrics.watch(Watched(UsageLimits("rejected", 1_800_000_000, "five_hour", 0.93)))
    told = rendered(metrics)
    assert value(told, "bridge_plan_utilization_ratio", limit="five_hour") == 0.93
    assert value(told, "bridge_plan_resets_timestamp_seconds", limit="five_hour") == 1_800_000_000
    assert value(told, "bridge_plan_rejected") == 1
    metrics = Metrics()
    metrics.watch(Watched(UsageLimits("allowed")))
    told = rendered(metrics)
    assert value(told, "bridge_plan_rejected") == 0
    assert not any("utilization" in name or "resets" in name for name, _ in told)


def test_each_usage_limit_is_reported() -> None:
    windows = (UsageWindow("five_hour", 0.9, 1_800_000_000), UsageWindow("seven_day", 0.4))
    metrics = Metrics()
    metrics.watch(Watched(UsageLimits("allowed", 1_800_000_000, "five_hour", 0.9, windows=windows)))
    told = rendered(metrics)
    shares = {limit: value(told, "bridge_plan_utilization_ratio", limit=limit) for limit in LIMITS}
    assert shares == {"five_hour": 0.9, "seven_day": 0.4}
    assert value(told, "bridge_plan_resets_timestamp_seconds", limit="five_hour") == 1_800_000_000


def test_what_was_not_counted_yet_stands_at_zero() -> None:
    metrics = Metrics()
    metrics.watch(Watched())
    told = rendered(metrics)
    for name, labels in (
        ("bridge_sessions_total", {"session": "spawned"}),
        ("bridge_process_restarts_total", {"reason": "worn"}),
    ):
        assert told[name, frozenset(labels.items())] == 0


def test_a_request_that_could_not_be_read_is_counted_and_has_no_duration() -> None:
    metrics = Metrics()
    unread = RequestRecord(CompletionRequest((), api="http"), 100.0)
    unread.error, unread.offered_model = "INVALID_VALUE", "claude-opus-9"
    metrics.ended(unread)
    told = rendered(metrics)
    labels = {"api": "http", "model": "claude-opus-9", "outcome": "invalid_value"}
    assert value(told, "bridge_requests_total", **labels) == 1
    assert not any(name.startswith("bridge_request_duration") for name, _ in told)


def test_the_state_of_the_pool_is_read_on_request() -> None:
    metrics = Metrics()
    metrics.watch(Watched())
    told = rendered(metrics)
    assert value(told, "bridge_serving") == 1
    assert value(told, "bridge_queue_length") == 4
    assert value(told, "bridge_max_processes") == 6
    assert value(told, "bridge_processes_started_total") == 9
    assert value(told, "bridge_process_restarts_total", reason="died") == 2


def test_nothing_is_global() -> None:
    one, other = Metrics(), Metrics()
    one.ended(answered(101.0))
    assert not any(name == "bridge_requests_total" for name, _ in rendered(other))
    ours = [m for m in prometheus_client.REGISTRY.collect() if m.name.startswith("bridge")]
    assert ours == []


def test_both_formats_are_what_their_readers_expect() -> None:
    metrics = Metrics()
    metrics.watch(Watched(UsageLimits("allowed", 1_800_000_000, "five_hour", 0.5)))
    metrics.ended(answered(101.0, 102.0))
    body, media_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]
    body, media_type = metrics.render("text/plain")
    assert media_type.startswith("text/plain")
    assert {"bridge_tokens", "bridge_token_gap_seconds", "bridge_processes"} <= names


def scrape(bridge: RunningBridge) -> Samples:
    reply = httpx.get(f"{bridge.url}/metrics", timeout=PATIENCE)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    return samples(reply.text)


def test_a_server_reports_what_it_has_served(bridge: RunningBridge) -> None:
    bridge.wait_until_settled()
    before = scrape(bridge)

    def more(told: Samples, name: str, **labels: str) -> float:
        return value(told, name, **labels) - value(before, name, **labels)

    with OpenAI(base_url=f"{bridge.url}/v1", api_key="unused") as client:

        def ask(content: str) -> Any:
            return client.chat.completions.create(
                model="default", messages=[{"role": "user", "content": content}], stream=True
            )

        with ask(sim(endless=True)) as endless:
            next(endless)
            during = scrape(bridge)
        assert more(during, "bridge_requests_in_flight", api="http") == 1
        assert value(during, "bridge_processes", state="running") >= 1
        (answering,) = {chunk.model for chunk in ask(sim(text="a b c d"))}
        with_other = httpx.post(
            f"{bridge.url}/v1/chat/completions",
            json={"model": "claude-nonsense!", "messages": [{"role": "user", "content": "x"}]},
            timeout=PATIENCE,
        )
    assert with_other.status_code == 404
    bridge.wait_until_settled()
    after = scrape(bridge)
    requests = "bridge_requests_total"
    assert more(after, requests, api="http", model=answering, outcome="stop") == 1
    assert more(after, requests, api="http", model=OTHER, outcome="model_not_found") == 1
    assert more(after, requests, api="http", model=answering, outcome="client_closed") == 1
    assert more(after, "bridge_time_to_first_token_seconds_count", model=answering) == 2
    assert more(after, "bridge_token_gap_seconds_count", model=answering) >= 1
    assert more(after, "bridge_tokens_total", model=answering, kind="output") >= 1
    assert more(after, "bridge_requests_in_flight", api="http") == 0
    got = ("continued", "warm", "initialised", "spawned")
    assert sum(more(after, "bridge_sessions_total", session=how) for how in got) == 2
    assert value(after, "bridge_processes_started_total") >= 1
    assert value(after, "bridge_serving") == 1


def test_a_process_that_dies_counts_as_a_restart(
    start_bridge: Callable[..., RunningBridge],
) -> None:
    bridge = start_bridge(pool_size=1, bridge_spares=0)
    bridge.wait_until_settled()
    pool = bridge.bridge.engine.pool

    async def kill() -> None:
        (process,) = pool._processes.values()
        assert process.session is not None
        process.session._transport.process.kill()

    bridge.call(kill)
    bridge.wait_for_processes(lambda _: pool.totals.replaced[ReplacementReason.DIED] == 1)
    bridge.wait_until_settled()
    told = scrape(bridge)
    assert value(told, "bridge_process_restarts_total", reason="died") == 1
    assert value(told, "bridge_processes_ended_total") == 1


def test_costs_are_counted_by_model_and_payer_and_unknown_ones_by_themselves() -> None:
    metrics = Metrics()
    one, other = answered(101.0), answered(101.0)
    one.cost = Cost(0.75, {"claude-opus-9": 0.5, "claude-small-9": 0.25})
    other.cost, other.billed, other.payer = Cost(2.0, {"claude-opus-9[1m]": 2.0}), True, "team"
    killed = answered(101.0)
    killed.cost = UNKNOWN_COST
    for each in (one, other, killed):
        metrics.booked(each)
    told = rendered(metrics)
    opus, name = "claude-opus-9", "bridge_cost_usd_total"
    assert value(told, name, model=opus, payer="default", billed="false") == 0.5
    assert value(told, name, model="other", payer="default", billed="false") == 0.25
    assert value(told, name, model=opus, payer="team", billed="true") == 2.0
    assert value(told, "bridge_unknown_costs_total") == 1
