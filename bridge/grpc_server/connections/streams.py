"""The calls of each connection, which gRPC limits and does not report."""

from __future__ import annotations

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

    @contextmanager
    def one_more(self, peer: str) -> Iterator[None]:
        """Count a call of the connection from `peer`, as gRPC calls it."""
        if peer.startswith("unix:"):
            yield
            return
        with self._occupancy.one_more(Limit.GRPC_STREAMS, peer, self._most):
            yield
