"""The metrics, as Prometheus reads them.

Numbers of the pool are read when the metrics are; those of requests are added up when a
request ends, from its record. Everything lives in an object of one server: nothing is global. All
of it is on the event loop's thread, so that a count is an addition and nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
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
from bridge.core.contract import PoolState, ReplacementReason, SessionSource, UsageLimits
from bridge.core.telemetry.connections import Connections
from bridge.core.telemetry.request_record import GAP_BOUNDS, RequestRecord

SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper ends of the buckets for times of whole requests, of first tokens and of the queue."""

OTHER: Final = "other"
"""The label of every model that Claude Code does not offer: callers choose the names."""


class Watched(Protocol):
    """What of the engine is looked at."""

    def pool_state(self) -> PoolState:
        """How the pool stands now."""
        ...


class Buckets:
    """A histogram of one set of labels."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, counts: Sequence[int], total: float) -> None:
        """Add what was counted elsewhere, in buckets of the same bounds."""
        for index, count in enumerate(counts):
            self.counts[index] += count
        self.sum += total

    def cumulative(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus has them: each holds those below it too."""
        seen = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            buckets.append((bound, seen))
        return buckets


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.series: dict[str, Buckets] = {}

    def of(self, label: str) -> Buckets:
        buckets = self.series.get(label)
        if buckets is None:
            buckets = self.series[label] = Buckets(self._bounds)
        return buckets


class Metrics(Collector):
    """Counts requests, and reports the counts with the state of the pool. An Observer."""

    def __init__(self) -> None:
        self.connections = Connections()
        self._watched: Watched | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        # CPU, memory, file descriptors and start time of the server itself, on Linux.
        ProcessCollector(registry=self._registry)
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._unseen_calls: Counter[tuple[str]] = Counter()
        self._first_token = _Histogram(SECONDS)
        self._gap = _Histogram(GAP_BOUNDS)
        self._total = _Histogram(SECONDS)
        self._queue = _Histogram(SECONDS)

    def watch(self, watched: Watched) -> None:
        """Report the state of this engine's pool, too."""
        self._watched = watched

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics and their media type, in the format that an `Accept` header asks for."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    # Observer

    def began(self, record: RequestRecord) -> None:
        """Count a request as under way."""
        self._in_flight[record.request.door] += 1

    def ended(self, record: RequestRecord) -> None:
        """Count it as ended."""
        door = record.request.door
        self._in_flight[door] -= 1
        times = record.times
        model = record.offered_model or OTHER
        finished = record.finished
        outcome = record.error or (finished.reason if finished else "unknown")
        self._requests[door, model, outcome.lower()] += 1
        if record.request.messages:
            # One that could not be read took no time, and would make the others look fast.
            self._total.of(model).add(times.since_start(times.ended_at))
        if times.leased_at is not None and record.session_source is not None:
            self._queue.of(record.session_source).add(times.since_start(times.leased_at))
        if times.first_token_at is not None:
            self._first_token.of(model).add(times.since_start(times.first_token_at))
            self._gap.of(model).merge(record.gaps, record.gap_seconds)
        if record.unseen_calls:
            self._unseen_calls[(model,)] += record.unseen_calls
        usage = record.usage
        if usage is not None:
            self._tokens[model, "input"] += usage.input_tokens
            self._tokens[model, "cache_read"] += usage.cache_read_tokens
            self._tokens[model, "cache_write"] += usage.cache_write_tokens
            self._tokens[model, "output"] += usage.output_tokens

    # Collector

    def collect(self) -> Iterator[Metric]:
        """Every metric there is."""
        yield from self._of_requests()
        yield from self.connections.metrics()
        if self._watched is not None:
            yield from _of_pool(self._watched.pool_state())

    def _of_requests(self) -> Iterator[Metric]:
        yield _counter(
            "bridge_requests",
            "Requests that ended, by the finish reason of their answer or the reason of their "
            "error.",
            ("door", "model", "outcome"),
            self._requests,
        )
        in_flight = GaugeMetricFamily(
            "bridge_requests_in_flight", "Requests under way.", labels=("door",)
        )
        for door, count in self._in_flight.items():
            in_flight.add_metric((door,), count)
        yield in_flight
        yield _counter(
            "bridge_tokens",
            "Tokens of complete answers; input is what was neither read from the prompt cache nor "
            "written to it.",
            ("model", "kind"),
            self._tokens,
        )
        yield _counter(
            "bridge_unseen_calls",
            "Upstream calls that Claude Code has made by itself once an answer was whole.",
            ("model",),
            self._unseen_calls,
        )
        for name, text, label, histogram in (
            ("time_to_first_token", "From the request to the first token.", "model",
             self._first_token),
            ("token_gap", "From one part of an answer to the next.", "model", self._gap),
            ("request_duration", "From the request to the end of its answer.", "model",
             self._total),
            ("queue", "From the request to its session, by how that was got.", "session",
             self._queue),
        ):  # fmt: skip
            family = HistogramMetricFamily(f"bridge_{name}_seconds", text, labels=(label,))
            for value, buckets in histogram.series.items():
                family.add_metric((value,), buckets.cumulative(), buckets.sum)
            yield family


def _of_pool(state: PoolState) -> Iterator[Metric]:
    health, totals = state.health, state.totals
    info = {
        "version": __version__,
        "cli_version": health.cli_version,
        "account": health.account,
        "simulated": str(health.simulated).lower(),
    }
    yield InfoMetricFamily("bridge", "What is running.", value=info)
    yield GaugeMetricFamily(
        "bridge_serving", "Whether a completion can be expected to work.", int(health.serving)
    )
    yield GaugeMetricFamily("bridge_queue_length", "Requests that wait.", health.waiting)
    yield GaugeMetricFamily("bridge_pool_size", "Turns that run at once.", health.pool_size)
    yield GaugeMetricFamily(
        "bridge_max_processes", "The most processes there are.", state.max_processes
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
        "bridge_processes_started", "Processes that came up.", totals.processes_started
    )
    yield CounterMetricFamily(
        "bridge_processes_ended", "Processes that were ended.", totals.processes_ended
    )
    yield _counter(
        "bridge_process_restarts",
        "Processes replaced by new ones: died by themselves, failed to do what they were told, or "
        "worn.",
        ("reason",),
        _from_zero(ReplacementReason, totals.processes_replaced),
    )
    if state.plan is not None:
        yield from _of_usage_limits(state.plan)


def _of_usage_limits(plan: UsageLimits) -> Iterator[Metric]:
    utilization = GaugeMetricFamily(
        "bridge_plan_utilization_ratio", "The used share of a limit of the plan.", labels=("limit",)
    )
    resets = GaugeMetricFamily(
        "bridge_plan_resets_timestamp_seconds", "When it is lifted.", labels=("limit",)
    )
    for limit in plan.windows or (plan,):
        if limit.utilization is not None:
            utilization.add_metric((limit.limit,), limit.utilization)
        if limit.resets_at is not None:
            resets.add_metric((limit.limit,), limit.resets_at)
    yield from (family for family in (utilization, resets) if family.samples)
    rejected = int(plan.status == "rejected")
    yield GaugeMetricFamily("bridge_plan_rejected", "Whether the plan is used up.", rejected)
    yield GaugeMetricFamily(
        "bridge_plan_overage", "Whether paid extra usage has begun.", int(plan.using_overage)
    )


def _from_zero(kinds: type[StrEnum], counts: Mapping[str, int]) -> dict[tuple[str], int]:
    """By label; with those that were not counted yet, so that a first one is seen as a rise."""
    names = dict.fromkeys((*map(str, kinds), *counts))
    return {(name,): counts.get(name, 0) for name in names}


def _counter(
    name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
