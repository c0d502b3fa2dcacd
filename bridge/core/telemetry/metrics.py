"""The Prometheus metrics.

Numbers of the pool are read when the metrics are; those of requests are added up when a
request ends, from its record. Everything lives in a registry of one server: nothing is global.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Any, Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.core.contract import (
    PoolState,
    ReplacementReason,
    SessionSource,
    UsageLimits,
)
from bridge.core.telemetry.costs import OTHER, Budgets, BudgetShares, Costs
from bridge.core.telemetry.keys import KeyRequests
from bridge.core.telemetry.labelled_requests import LabelledRequests
from bridge.core.telemetry.occupancy import Occupancy
from bridge.core.telemetry.payers import PayerRequests, of_payers
from bridge.core.telemetry.request_record import GAP_BOUNDS, RequestRecord

SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of the buckets for times of whole requests, of first tokens and of the queue."""


class Watched(Protocol):
    """The part of the engine that metrics need."""

    def pool_state(self) -> PoolState:
        """Return the current state of the pool."""
        ...


class Metrics:
    """Counts requests, and reports the counts with the state of the pool. An Observer."""

    def __init__(self, labels: Iterable[str] = ()) -> None:
        """`labels` are the names of the callers' labels that are counted by value."""
        self.occupancy = Occupancy()
        # Otherwise each series has a second one, with the time of its first count.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        registry.register(self.occupancy)
        ProcessCollector(registry=registry)  # The server's own, on Linux.
        self._requests = Counter(
            "bridge_requests",
            "Requests that ended, by the finish reason of the answer or the reason of the error.",
            ("api", "model", "outcome"),
            registry=registry,
        )
        self._in_flight = Gauge(
            "bridge_requests_in_flight", "Requests in progress.", ("api",), registry=registry
        )
        self._tokens = Counter(
            "bridge_tokens",
            "Tokens of complete answers; input is what was neither read from the prompt cache nor "
            "written to it.",
            ("model", "kind"),
            registry=registry,
        )
        self._unseen_calls = Counter(
            "bridge_unseen_calls",
            "Upstream calls that Claude Code made by itself after an answer was complete.",
            ("model",),
            registry=registry,
        )
        self._costs = Costs(registry)
        self._first_token = _seconds(
            "time_to_first_token", "From the request to the first token.", "model", registry
        )
        self._gap = _Gaps()
        registry.register(self._gap)
        self._total = _seconds(
            "request_duration", "From the request to the end of its answer.", "model", registry
        )
        self._queue = _seconds(
            "queue", "From the request to its session, by how it got one.", "session", registry
        )
        self._payers = PayerRequests(registry)
        self._keys = KeyRequests(registry)
        self._labelled = LabelledRequests(labels, registry)

    def watch(self, watched: Watched, replica: str = "") -> None:
        """Report the state of this engine's pool, too; `replica` is the name of the server."""
        self._registry.register(_Pool(watched, replica))

    def watch_redis(self, up: Callable[[], bool]) -> None:
        """Report whether Redis can be used."""
        gauge = Gauge("bridge_redis_up", "Whether Redis can be used.", registry=self._registry)
        gauge.set_function(up)

    def watch_budgets(self, used: BudgetShares) -> None:
        """Report how much of its budgets each key has used."""
        self._registry.register(Budgets(used))

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics and their media type, in the format that the `Accept` header
        requests."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    # Observer

    def began(self, record: RequestRecord) -> None:
        """Count a request as in progress."""
        self._in_flight.labels(record.request.api).inc()

    def ended(self, record: RequestRecord) -> None:
        """Count a request as ended."""
        api = record.request.api
        self._in_flight.labels(api).dec()
        times = record.times
        model = record.offered_model or OTHER
        finished = record.finished
        outcome = record.error or (finished.reason if finished else "unknown")
        self._requests.labels(api, model, outcome.lower()).inc()
        self._payers.count(record, outcome.lower())
        if record.request.messages:
            # One that could not be read took no time, and would make the others look fast.
            self._total.labels(model).observe(times.since_start(times.ended_at))
        if times.leased_at is not None and record.session_source is not None:
            self._queue.labels(record.session_source).observe(times.since_start(times.leased_at))
        if times.first_token_at is not None:
            self._first_token.labels(model).observe(times.since_start(times.first_token_at))
            self._gap.add(model, record.gaps, record.gap_seconds)
        if record.unseen_calls:
            self._unseen_calls.labels(model).inc(record.unseen_calls)
        self._keys.count(record, outcome.lower())
        self._labelled.count(record)
        usage = record.usage
        if usage is not None:
            self._tokens.labels(model, "input").inc(usage.input_tokens)
            self._tokens.labels(model, "cache_read").inc(usage.cache_read_tokens)
            self._tokens.labels(model, "cache_write").inc(usage.cache_write_tokens)
            self._tokens.labels(model, "output").inc(usage.output_tokens)

    def booked(self, record: RequestRecord) -> None:
        """Count the cost of a request."""
        self._costs.count(record)
        self._keys.count_cost(record)


def _seconds(name: str, text: str, label: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(f"bridge_{name}_seconds", text, (label,), buckets=SECONDS, registry=registry)


class _Gaps(Collector):
    """The times between parts of answers, which each request has counted in buckets already.

    There is one for each part of an answer: a `Histogram` would take each by itself, under a lock.
    """

    def __init__(self) -> None:
        self._series: dict[str, tuple[list[int], float]] = {}

    def add(self, model: str, counts: Sequence[int], seconds: float) -> None:
        """Add those of a request."""
        before, total = self._series.get(model, ([0] * len(counts), 0.0))
        summed = [one + other for one, other in zip(before, counts, strict=True)]
        self._series[model] = summed, total + seconds

    def collect(self) -> Iterator[Metric]:
        """The histogram."""
        text = "From one part of an answer to the next."
        family = HistogramMetricFamily("bridge_token_gap_seconds", text, labels=("model",))
        bounds = (*map(str, GAP_BOUNDS), "+Inf")
        for model, (counts, seconds) in self._series.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((model,), buckets, seconds)
        yield family


class _Pool(Collector):
    """The state of an engine's pool, read when the metrics are."""

    def __init__(self, watched: Watched, replica: str) -> None:
        self._watched = watched
        self._replica = replica

    def describe(self) -> Iterator[Metric]:
        """Nothing: what there is depends on the state, which is not to be asked at the start."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every metric of the pool."""
        state = self._watched.pool_state()
        yield from _of_pool(state, self._replica)
        yield from of_payers(state.payers)


def _of_pool(state: PoolState, replica: str) -> Iterator[Metric]:
    health, totals = state.health, state.totals
    info = {
        "version": __version__,
        "replica": replica,
        "cli_version": health.cli_version,
        "account": health.account,
        "simulated": str(health.simulated).lower(),
    }
    yield InfoMetricFamily("bridge", "Name and versions of the running server.", value=info)
    yield GaugeMetricFamily(
        "bridge_serving", "Whether completions are expected to work.", int(health.serving)
    )
    yield GaugeMetricFamily("bridge_queue_length", "Waiting requests.", health.waiting)
    yield GaugeMetricFamily("bridge_pool_size", "Maximum concurrent turns.", health.pool_size)
    yield GaugeMetricFamily(
        "bridge_max_processes", "Maximum number of processes.", state.max_processes
    )
    processes = GaugeMetricFamily(
        "bridge_processes", "Claude Code processes by state.", labels=("state",)
    )
    for name, count in health.processes.items():
        processes.add_metric((name,), count)
    yield processes
    yield _counter(
        "bridge_sessions",
        "Requests by how they got their session.",
        ("session",),
        _from_zero(SessionSource, totals.sessions),
    )
    yield CounterMetricFamily(
        "bridge_processes_started", "Processes that started.", totals.processes_started
    )
    yield CounterMetricFamily(
        "bridge_processes_ended", "Processes that ended.", totals.processes_ended
    )
    yield _counter(
        "bridge_process_restarts",
        "Replaced processes by reason: died by themselves, failed, or reached their recycling "
        "limit.",
        ("reason",),
        _from_zero(ReplacementReason, totals.processes_replaced),
    )
    if state.plan is not None:
        yield from _of_usage_limits(state.plan)


def _of_usage_limits(plan: UsageLimits) -> Iterator[Metric]:
    utilization = GaugeMetricFamily(
        "bridge_plan_utilization_ratio", "The used share of a usage limit.", labels=("limit",)
    )
    resets = GaugeMetricFamily(
        "bridge_plan_resets_timestamp_seconds", "When a usage limit resets.", labels=("limit",)
    )
    for limit in plan.windows or (plan,):
        if limit.utilization is not None:
            utilization.add_metric((limit.limit,), limit.utilization)
        if limit.resets_at is not None:
            resets.add_metric((limit.limit,), limit.resets_at)
    yield from (family for family in (utilization, resets) if family.samples)
    rejected = int(plan.status == "rejected")
    yield GaugeMetricFamily("bridge_plan_rejected", "Whether a usage limit is reached.", rejected)
    yield GaugeMetricFamily(
        "bridge_plan_overage", "Whether paid extra usage has started.", int(plan.using_overage)
    )


def _from_zero(kinds: type[StrEnum], counts: Mapping[str, int]) -> dict[tuple[str], int]:
    """Return counts by label, including zeros, so that a first event is visible as an increase."""
    names = dict.fromkeys((*map(str, kinds), *counts))
    return {(name,): counts.get(name, 0) for name in names}


def _counter(
    name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
