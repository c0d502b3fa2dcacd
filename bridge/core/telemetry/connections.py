"""How many connections each API has, and a warning when it has room for no more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)

QUIET_SECONDS: Final = 60.0
"""The least between two warnings of an API: its last place may be taken many times a second."""


class Connections(Collector):
    """Counts for the metrics, and for the log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: dict[str, int] = {}
        self._full: set[str] = set()
        self._warned: dict[str, float] = {}

    def now(self, api: str, count: int, limit: int, *, fullest: int | None = None) -> None:
        """Note how many there are now; `fullest` is the count that the limit is of, if another."""
        self._open[api] = count
        if (count if fullest is None else fullest) < limit:
            self._full.discard(api)
        elif api not in self._full:
            self._full.add(api)
            if self._clock() - self._warned.get(api, -QUIET_SECONDS) >= QUIET_SECONDS:
                self._warned[api] = self._clock()
                logger.warning(
                    "all %d connections of the %s API are in use: further ones are refused until "
                    "one is closed",
                    limit,
                    api,
                )

    def collect(self) -> Iterator[Metric]:
        """The counts, as Prometheus has them."""
        family = GaugeMetricFamily("bridge_connections", "Open connections.", labels=("api",))
        for api, count in self._open.items():
            family.add_metric((api.lower(),), count)
        yield family
