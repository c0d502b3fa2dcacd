"""The connections of the gRPC server, which gRPC counts and does not report."""

from __future__ import annotations

import asyncio
from typing import Final

from bridge.core.system import connections_to
from bridge.core.telemetry import Limit, Occupancy

LOOK_SECONDS: Final = 5.0


async def watch_grpc_connections(port: int, limit: int, occupancy: Occupancy) -> None:
    """Count them every few seconds, for as long as the system says how many there are."""
    while (counts := await asyncio.to_thread(connections_to, port)) is not None:
        # Each address that is listened on has the limit for itself.
        occupancy.now(Limit.GRPC_CONNECTIONS, sum(counts), limit, fullest=max(counts))
        await asyncio.sleep(LOOK_SECONDS)
