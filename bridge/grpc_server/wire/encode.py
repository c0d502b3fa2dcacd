"""Encodes the core's events, and its state, to messages of bridge.v1. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, assert_never

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from bridge import __version__
from bridge.core import contract
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import model_pb2, pool_pb2

_Response = TypeVar("_Response", pb.CompleteResponse, pb.ConverseResponse)

FINISH_REASONS: Final[Mapping[contract.FinishReason, pb.FinishReason.ValueType]] = {
    contract.FinishReason.STOP: pb.FINISH_REASON_STOP,
    contract.FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    contract.FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    contract.FinishReason.REFUSAL: pb.FINISH_REASON_REFUSAL,
}

CANCELLED: Final = pb.ConverseResponse(finished=pb.Finished(reason=pb.FINISH_REASON_CANCELLED))
"""The end of a turn that the client cancelled."""


COMPLETE_HEARTBEAT: Final = pb.CompleteResponse(heartbeat=pb.Heartbeat())
CONVERSE_HEARTBEAT: Final = pb.ConverseResponse(heartbeat=pb.Heartbeat())


def encode_started(request_id: str) -> pb.ConverseResponse:
    """Encode `started` for a turn that was cancelled before a model was called."""
    return pb.ConverseResponse(started=pb.Started(request_id=request_id))


def encode_failure(status: status_pb2.Status) -> pb.ConverseResponse:
    """Encode the end of a turn that failed."""
    failed = pb.TurnFailed(code=status.code, message=status.message, details=status.details)
    return pb.ConverseResponse(turn_failed=failed)


_STATUSES: Final[Mapping[str, pool_pb2.Pool.Status.ValueType]] = {
    "ok": pool_pb2.Pool.STATUS_OK,
    "starting": pool_pb2.Pool.STATUS_STARTING,
    "draining": pool_pb2.Pool.STATUS_DRAINING,
    "not_logged_in": pool_pb2.Pool.STATUS_NOT_LOGGED_IN,
    "unavailable": pool_pb2.Pool.STATUS_UNAVAILABLE,
    "overage_ahead": pool_pb2.Pool.STATUS_OVERAGE_AHEAD,
}


def encode_event(
    event: contract.Event, request_id: str, response: type[_Response]
) -> tuple[_Response, ...]:
    """Encode an event. `Finished` is preceded by the usage as a separate event."""
    try:
        return _encoded(event, request_id, response)
    except UnicodeEncodeError:
        # JSON can contain half of a surrogate pair, protobuf cannot.
        return _encoded(_encodable(event), request_id, response)


def _encoded(
    event: contract.Event, request_id: str, response: type[_Response]
) -> tuple[_Response, ...]:
    match event:
        case contract.TextDelta(text):
            return (response(text_delta=pb.TextDelta(text=text)),)
        case contract.ThinkingDelta(text):
            return (response(thinking_delta=pb.ThinkingDelta(text=text)),)
        case (
            contract.ThinkingSignature()
            | contract.EncryptedThinking()
            | contract.TextStart()
            | contract.Citation()
        ):
            # Only for requests that ask for signatures or citations, which none over gRPC does.
            return ()
        case contract.ToolCallDelta(index, arguments):
            delta = pb.ToolCallDelta(index=index, arguments_json=arguments)
            return (response(tool_call_delta=delta),)
        case contract.ToolCallStart(index, call_id, name):
            call = pb.ToolCallStart(index=index, id=call_id, name=name)
            return (response(tool_call_start=call),)
        case contract.Started(answering, ignored):
            started = pb.Started(request_id=request_id, model=answering, ignored_params=ignored)
            return (response(started=started),)
        case contract.Finished(reason, usage, stop_sequence):
            wire_usage = encode_usage(usage)
            finished = pb.Finished(
                reason=FINISH_REASONS[reason],
                usage=wire_usage,
                stop_sequence=stop_sequence or "",
            )
            return (response(usage=wire_usage), response(finished=finished))
        case never:
            assert_never(never)


def _encodable(event: contract.Event) -> contract.Event:
    texts = {
        field.name: sendable(value)
        for field in fields(event)
        if type(value := getattr(event, field.name)) is str
    }
    return replace(event, **texts)  # type: ignore[arg-type]


def sendable(text: str) -> str:
    """Join surrogate pairs, and replace halves of them: protobuf's strings cannot have any."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode_usage(usage: contract.Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        thinking_tokens=usage.thinking_tokens,
    )


def encode_model(offered: contract.Model) -> model_pb2.Model:
    return model_pb2.Model(
        id=offered.id,
        resolved_model=offered.resolved,
        display_name=offered.display_name,
        description=offered.description,
        efforts=offered.efforts,
        is_default=offered.default,
    )


def encode_pool(state: contract.PoolState) -> pool_pb2.Pool:
    """Encode the state of the pool, without what this version of the API has no field for."""
    health = state.health
    return pool_pb2.Pool(
        status=_STATUSES.get(health.status, pool_pb2.Pool.STATUS_UNSPECIFIED),
        account=health.account,
        logged_in=health.logged_in,
        simulated=health.simulated,
        cli_version=health.cli_version,
        lacking=health.lacking,
        pool_size=health.pool_size,
        max_processes=state.max_processes,
        waiting=health.waiting,
        processes=pool_pb2.Processes(**_known(pool_pb2.Processes, health.processes)),
        totals=_totals(state.totals),
        plan=None if state.plan is None else _plan(state.plan),
        detail=health.detail,
        version=__version__,
        subscription=health.subscription,
    )


def encode_request(line: Mapping[str, Any]) -> pool_pb2.RecentRequest:
    """Encode the metadata of a past request; see `RequestRecord.metadata`."""
    told = {name: value for name, value in line.items() if value is not None}
    time = Timestamp()
    time.FromJsonString(told.pop("time"))
    finish = told.pop("finish", None)
    texts = {name: value for name, value in told.items() if type(value) is str}
    return pool_pb2.RecentRequest(
        **{**told, **{name: sendable(text) for name, text in texts.items()}},
        time=time,
        finish=pb.FINISH_REASON_UNSPECIFIED if finish is None else FINISH_REASONS[finish],
    )


def _totals(totals: contract.Totals) -> pool_pb2.Totals:
    return pool_pb2.Totals(
        answered=totals.answered,
        failed=totals.failed,
        left=totals.left,
        sessions=pool_pb2.Sessions(**_known(pool_pb2.Sessions, totals.sessions)),
        processes_started=totals.processes_started,
        processes_ended=totals.processes_ended,
        processes_replaced=pool_pb2.Replaced(
            **_known(pool_pb2.Replaced, totals.processes_replaced)
        ),
    )


def _plan(plan: contract.UsageLimits) -> pool_pb2.Plan:
    return pool_pb2.Plan(
        status=plan.status,
        resets_at=None if plan.resets_at is None else _timestamp(plan.resets_at),
        limit=plan.limit,
        utilization=plan.utilization,
        using_overage=plan.using_overage,
        overage_status=plan.overage_status,
        windows=[_window(window) for window in plan.windows],
        said_at=_timestamp(plan.said_at),
    )


def _window(window: contract.UsageWindow) -> pool_pb2.PlanWindow:
    return pool_pb2.PlanWindow(
        limit=window.limit,
        utilization=window.utilization,
        resets_at=None if window.resets_at is None else _timestamp(window.resets_at),
    )


def _known(
    kind: type[pool_pb2.Processes | pool_pb2.Sessions | pool_pb2.Replaced],
    counts: Mapping[str, int],
) -> dict[str, int]:
    return {name: counts[name] for name in counts if name in kind.DESCRIPTOR.fields_by_name}


def _timestamp(seconds: float) -> Timestamp | None:
    """None if the value, which comes from outside, is not a valid time."""
    timestamp = Timestamp()
    try:
        timestamp.FromDatetime(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return None
    return timestamp
