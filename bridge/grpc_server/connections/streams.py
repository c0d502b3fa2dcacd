"""The calls of each connection, which gRPC limits and does not report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.core.telemetry import Limit, Occupancy


class Streams:
    """Counts the calls of each connection.

    Those of all Unix sockets count as none: their connections have no names.
    """

    def __init__(self, most: int, occupancy: Occupancy) -> None:
        self._most = most
        self._occupancy = occupancy
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, peer: str) -> Iterator[None]:
        """Count a call of the connection from `peer`, as gRPC calls it."""
        if peer.startswith("unix:"):
            yield
            return
        self._changed(peer, 1)
        try:
            yield
        finally:
            self._changed(peer, -1)

    def _changed(self, peer: str, by: int) -> None:
        self._open[peer] += by
        count = self._open[peer]
        if not count:
            del self._open[peer]
        self._occupancy.of(Limit.GRPC_STREAMS, peer, count, self._most)
