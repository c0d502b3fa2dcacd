"""How full the server is: its connections, and what reached one of its limits.

A limit that is reached is logged when it is, not once for each client that it keeps out.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

QUIET_SECONDS: Final = 60.0
"""The least between two warnings of a limit: its last place may be taken many times a second."""


class Limit(StrEnum):
    """A limit on what clients may have open at the same time."""

    HTTP_CONNECTIONS = "http_connections"
    GRPC_CONNECTIONS = "grpc_connections"
    GRPC_STREAMS = "grpc_streams"
    CONVERSATIONS = "conversations"


_WARNINGS: Final[Mapping[Limit, str]] = {
    Limit.HTTP_CONNECTIONS: "all %d connections of the HTTP API are in use: further ones are "
    "refused until one is closed (BRIDGE_HTTP_MAX_CONNECTIONS)",
    Limit.GRPC_CONNECTIONS: "all %d connections of the gRPC API are in use: further ones are "
    "refused until one is closed (BRIDGE_GRPC_MAX_CONNECTIONS)",
    Limit.GRPC_STREAMS: "all %d calls of a gRPC connection are in use: its further ones wait until "
    "one ends (BRIDGE_GRPC_MAX_STREAMS)",
    Limit.CONVERSATIONS: "all %d Converse calls of a caller are in use: its further ones are "
    "refused until one ends",
}
_APIS: Final[Mapping[Limit, str]] = {
    Limit.HTTP_CONNECTIONS: "http",
    Limit.GRPC_CONNECTIONS: "grpc",
}


class Occupancy(Collector):
    """Counts for the metrics, and warnings in the log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[Limit, tuple[int, int]] = {}
        self._held: dict[Limit, Counter[str]] = defaultdict(Counter)
        self._full: set[tuple[Limit, str]] = set()
        self._warned: dict[Limit, float] = {}
        self._reached = dict.fromkeys(Limit, 0)
        self._refused = {Limit.HTTP_CONNECTIONS: 0, Limit.CONVERSATIONS: 0}

    def now(self, limit: Limit, count: int, most: int, *, fullest: int | None = None) -> None:
        """Note how many connections there are now; `fullest` is the count that has the limit
        `most`, if it is another.
        """
        self._open[limit] = count, most
        self.of(limit, "", count if fullest is None else fullest, most)

    def of(self, limit: Limit, whose: str, count: int, most: int) -> None:
        """Note how many a caller or a connection has now, whose own the limit is."""
        if count < most:
            self._full.discard((limit, whose))
        elif (limit, whose) not in self._full:
            self._full.add((limit, whose))
            self._reached[limit] += 1
            if self._clock() - self._warned.get(limit, -QUIET_SECONDS) >= QUIET_SECONDS:
                self._warned[limit] = self._clock()
                logger.warning(_WARNINGS[limit], most)

    @contextmanager
    def one_more(self, limit: Limit, whose: str, most: int) -> Iterator[None]:
        """Count something that a caller or a connection has open within the block."""
        held = self._held[limit]
        held[whose] += 1
        self.of(limit, whose, held[whose], most)
        try:
            yield
        finally:
            held[whose] -= 1
            self.of(limit, whose, held[whose], most)
            if not held[whose]:
                del held[whose]

    def held(self, limit: Limit, whose: str) -> int:
        """Return how many a caller or a connection has open now, by `one_more`."""
        return self._held[limit][whose]

    def refused(self, limit: Limit) -> None:
        """Count a client that was refused because of a limit."""
        self._refused[limit] += 1

    def collect(self) -> Iterator[Metric]:
        """The counts, as Prometheus has them."""
        current = GaugeMetricFamily("bridge_connections", "Open connections.", labels=("api",))
        most = GaugeMetricFamily(
            "bridge_max_connections", "Maximum number of connections.", labels=("api",)
        )
        for limit, (count, allowed) in self._open.items():
            current.add_metric((_APIS[limit],), count)
            most.add_metric((_APIS[limit],), allowed)
        yield current
        yield most
        yield _counter("bridge_limit_reached", "How often a limit was reached.", self._reached)
        yield _counter(
            "bridge_limit_refusals", "Clients refused because of a limit.", self._refused
        )


def _counter(name: str, text: str, counts: Mapping[Limit, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=("limit",))
    for limit, count in counts.items():
        family.add_metric((limit,), count)
    return family
