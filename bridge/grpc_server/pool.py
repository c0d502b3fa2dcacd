"""PoolService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from operator import itemgetter
from typing import Any, Final

import grpc

from bridge.core.contract import PoolState, Service
from bridge.grpc_server.call_context import Calls
from bridge.grpc_server.wire.encode import encode_request
from bridge.grpc_server.wire.paging import page_of
from bridge.grpc_server.wire.pool_state import encode_pool
from bridge.v1 import pool_pb2 as pb
from bridge.v1 import pool_pb2_grpc as pb_grpc

PAUSE_SECONDS: Final = 0.1
"""At least so long from one response of a watch to the next."""

_ID: Final = itemgetter("request_id")


class PoolServicer(pb_grpc.PoolServiceServicer):
    """Reports the state of the pool and the latest requests."""

    def __init__(
        self,
        service: Service,
        calls: Calls,
        recent: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
        *,
        heartbeat_seconds: float,
        replica: str = "",
    ) -> None:
        """`recent` returns the latest requests, newest first; see `RecentRequests.lines`.

        A watch sends the state again after `heartbeat_seconds` of silence. `replica` is the name of
        this server.
        """
        self._replica = replica
        self._service = service
        self._calls = calls
        self._recent = recent
        self._heartbeat_seconds = heartbeat_seconds

    async def GetPool(
        self, request: pb.GetPoolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetPoolResponse:
        return pb.GetPoolResponse(pool=encode_pool(self._service.pool_state(), self._replica))

    async def WatchPool(
        self, request: pb.WatchPoolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[pb.WatchPoolResponse, None]:
        """Send the state of the pool now, after each change, and after each silence."""
        with self._calls.idle():
            async with aclosing(self._states()) as states:
                async for state in states:
                    yield pb.WatchPoolResponse(pool=encode_pool(state, self._replica))
                    # The core combines changes that happen meanwhile.
                    await asyncio.sleep(PAUSE_SECONDS)

    async def _states(self) -> AsyncGenerator[PoolState, None]:
        """Yield the states of the pool, the present one again after each silence."""
        change: asyncio.Task[PoolState] | None = None
        async with aclosing(self._service.watch_pool()) as states:
            try:
                while True:
                    change = change or asyncio.ensure_future(anext(states))
                    await asyncio.wait((change,), timeout=self._heartbeat_seconds)
                    if change.done():
                        state, change = change.result(), None
                    else:
                        state = self._service.pool_state()
                    yield state
            finally:
                if change is not None:
                    change.cancel()
                    await asyncio.gather(change, return_exceptions=True)

    async def ListRecentRequests(
        self, request: pb.ListRecentRequestsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListRecentRequestsResponse:
        page, following = page_of(self._recent(), request.page_size, request.page_token, _ID)
        requests = [encode_request(line) for line in page]
        return pb.ListRecentRequestsResponse(requests=requests, next_page_token=following)
