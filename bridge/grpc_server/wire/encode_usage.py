"""Encodes what the ledger says to messages of bridge.v1. Pure."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from bridge.core.ledger import Entry, Totals
from bridge.grpc_server.wire.encode import sendable
from bridge.v1 import completion_pb2, usage_pb2


def encode_totals(totals: Totals) -> usage_pb2.UsageTotals:
    """Encode sums of the ledger."""
    return usage_pb2.UsageTotals(
        requests=totals.requests,
        tokens=_tokens(totals),
        cost_usd=round(totals.cost_usd, 9),
        billed_usd=round(totals.billed_usd, 9),
        unknown_costs=totals.unknown_costs,
    )


def encode_request_usage(entry: Entry) -> usage_pb2.GetRequestUsageResponse:
    """Encode what a single request used."""
    end = Timestamp()
    end.FromMicroseconds(round(entry.ended_on * 1e6))
    return usage_pb2.GetRequestUsageResponse(
        request_id=sendable(entry.request_id),
        end_time=end,
        key=sendable(entry.key),
        model=sendable(entry.model),
        error_reason=sendable(entry.error),
        tokens=_tokens(entry.totals),
        cost=completion_pb2.Cost(
            usd=entry.cost_usd, billed=entry.billed, payer=sendable(entry.payer)
        ),
    )


def _tokens(totals: Totals) -> completion_pb2.Usage:
    return completion_pb2.Usage(
        input_tokens=totals.input_tokens,
        cache_read_tokens=totals.cache_read_tokens,
        cache_write_tokens=totals.cache_write_tokens,
        output_tokens=totals.output_tokens,
    )
