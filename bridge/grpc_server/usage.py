"""UsageService."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from bridge.core.access import Grant
from bridge.core.contract import InvalidRequestError
from bridge.core.ledger import Asker, Ledger, Totals, dimension_of, found, period_of, unavailable
from bridge.grpc_server.call_context import current_grant
from bridge.grpc_server.wire.encode_usage import encode_request_usage, encode_totals
from bridge.v1 import usage_pb2 as pb
from bridge.v1 import usage_pb2_grpc as pb_grpc


class UsageServicer(pb_grpc.UsageServiceServicer):
    """Answers from the ledger."""

    def __init__(
        self,
        ledger: Ledger | None,
        is_admin: Callable[[Grant], bool],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Without a ledger, every call fails as UNAVAILABLE."""
        self._opened = ledger
        self._is_admin = is_admin
        self._now = now

    async def GetUsage(
        self, request: pb.GetUsageRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetUsageResponse:
        by, period = dimension_of(request.by), period_of(request.since, request.until, self._now())
        key = self._asker().keys(request.key)
        rows = await self._ledger.usage(by, since=period.since, until=period.until, key=key)
        return pb.GetUsageResponse(
            rows=[pb.UsageRow(name=row.name, totals=encode_totals(row.totals)) for row in rows],
            total=encode_totals(sum((row.totals for row in rows), Totals())),
        )

    async def GetRequestUsage(
        self, request: pb.GetRequestUsageRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetRequestUsageResponse:
        id = request.request_id
        if not id:
            raise InvalidRequestError("'request_id' is required.", field="request_id")
        return encode_request_usage(found(await self._ledger.request(id, self._asker().keys()), id))

    @property
    def _ledger(self) -> Ledger:
        if self._opened is None:
            raise unavailable()
        return self._opened

    def _asker(self) -> Asker:
        grant = current_grant.get()
        return Asker(grant.name, self._is_admin(grant))
