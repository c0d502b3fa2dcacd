"""Encodes the core's events, and its state, to messages of bridge.v1. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar, assert_never

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from bridge.core import contract
from bridge.v1 import completion_pb2 as pb
from bridge.v1 import model_pb2, pool_pb2

FINISH_REASONS: Final[Mapping[contract.FinishReason, pb.FinishReason.ValueType]] = {
    contract.FinishReason.STOP: pb.FINISH_REASON_STOP,
    contract.FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    contract.FinishReason.TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    contract.FinishReason.REFUSAL: pb.FINISH_REASON_REFUSAL,
}

Response = TypeVar(
    "Response", pb.CompleteResponse, pb.AttachCompletionResponse, pb.ConverseResponse
)

CANCELLED: Final = pb.CompletionEvent(finished=pb.Finished(reason=pb.FINISH_REASON_CANCELLED))
"""The end of a turn that the client cancelled."""


def encode_error(status: status_pb2.Status) -> pb.ErrorStatus:
    """Encode why a turn failed or a message was refused."""
    return pb.ErrorStatus(code=status.code, message=status.message, details=status.details)


EFFORTS: Final[Mapping[str, pb.Effort.ValueType]] = {
    contract.Effort.NONE: pb.EFFORT_NONE,
    contract.Effort.LOW: pb.EFFORT_LOW,
    contract.Effort.MEDIUM: pb.EFFORT_MEDIUM,
    contract.Effort.HIGH: pb.EFFORT_HIGH,
    contract.Effort.XHIGH: pb.EFFORT_XHIGH,
    contract.Effort.MAX: pb.EFFORT_MAX,
}
_APIS: Final[Mapping[str, pool_pb2.Api.ValueType]] = {
    "http": pool_pb2.API_HTTP,
    "grpc": pool_pb2.API_GRPC,
}
_SOURCES: Final[Mapping[contract.SessionSource | None, pool_pb2.SessionSource.ValueType]] = {
    contract.SessionSource.CONTINUED: pool_pb2.SESSION_SOURCE_CONTINUED,
    contract.SessionSource.WARM: pool_pb2.SESSION_SOURCE_WARM,
    contract.SessionSource.INITIALISED: pool_pb2.SESSION_SOURCE_INITIALISED,
    contract.SessionSource.SPAWNED: pool_pb2.SESSION_SOURCE_SPAWNED,
}


def encode_event(
    event: contract.Event, number: int, request_id: str, replica: str = ""
) -> tuple[tuple[pb.CompletionEvent, int], ...]:
    """Encode an event as those of the API, each with its sequence number.

    There are none for what only HTTP can ask for.
    `Finished` is preceded by the usage as a separate event, which is not counted. `replica` is the
    name of this server.
    """
    try:
        if isinstance(event, contract.Finished):
            finished = _finished(event)
            return (
                (pb.CompletionEvent(usage=finished.usage), 0),
                (pb.CompletionEvent(finished=finished), number),
            )
        encoded = _encoded(event, request_id, replica)
    except UnicodeEncodeError:
        # JSON can contain half of a surrogate pair, protobuf cannot.
        return encode_event(_encodable(event), number, request_id, replica)
    return () if encoded is None else ((encoded, number),)


class ResponseEncoder(Generic[Response]):
    """Encodes the events of answers as responses of one kind.

    A response is valid until the next call: the deltas of the text, the bulk of an answer, share
    one message, since making a message of three levels costs twenty times as much as changing it.
    """

    def __init__(self, response: type[Response], replica: str = "") -> None:
        """`replica` is the name of this server."""
        self._make: type[Response] = response
        self._replica = replica
        self._shared: Response = response()
        self._text: pb.TextDelta = self._shared.event.text_delta
        self._text.SetInParent()
        self.heartbeat: Response = response(event=pb.CompletionEvent(heartbeat=pb.Heartbeat()))

    def started(self, request_id: str) -> pb.CompletionEvent:
        """Encode `started` for a turn that was cancelled before a model was called."""
        return pb.CompletionEvent(started=pb.Started(request_id=request_id, replica=self._replica))

    def encode(self, event: contract.Event, number: int, request_id: str) -> tuple[Response, ...]:
        """Encode an event, as `encode_event` does."""
        if isinstance(event, contract.TextDelta):
            try:
                self._text.text = event.text
            except UnicodeEncodeError:
                self._text.text = sendable(event.text)
            self._shared.sequence_number = number
            return (self._shared,)
        return tuple(
            self._make(event=wire, sequence_number=of_wire)
            for wire, of_wire in encode_event(event, number, request_id, self._replica)
        )


def _finished(event: contract.Finished) -> pb.Finished:
    return pb.Finished(
        reason=FINISH_REASONS[event.reason],
        usage=encode_usage(event.usage),
        stop_sequence=event.stop_sequence or "",
        cost=encode_charge(event.charge),
    )


def encode_charge(charge: contract.Charge | None) -> pb.Cost | None:
    """Encode what a request cost; None if that was not asked for."""
    if charge is None:
        return None
    return pb.Cost(usd=charge.usd, billed=charge.billed, payer=sendable(charge.payer))


def _encoded(
    event: contract.Started
    | contract.TextDelta
    | contract.ThinkingDelta
    | contract.ThinkingSignature
    | contract.EncryptedThinking
    | contract.TextStart
    | contract.Citation
    | contract.ToolCallStart
    | contract.ToolCallDelta,
    request_id: str,
    replica: str,
) -> pb.CompletionEvent | None:
    match event:
        case contract.TextDelta(text):
            return pb.CompletionEvent(text_delta=pb.TextDelta(text=text))
        case contract.ThinkingDelta(text):
            return pb.CompletionEvent(thinking_delta=pb.ThinkingDelta(text=text))
        case (
            contract.ThinkingSignature()
            | contract.EncryptedThinking()
            | contract.TextStart()
            | contract.Citation()
        ):
            # Only in answers to requests over HTTP, which a call may be attached to.
            return None
        case contract.ToolCallDelta(index, arguments):
            delta = pb.ToolCallDelta(index=index, arguments_json=arguments)
            return pb.CompletionEvent(tool_call_delta=delta)
        case contract.ToolCallStart(index, call_id, name):
            call = pb.ToolCallStart(index=index, id=call_id, name=name)
            return pb.CompletionEvent(tool_call_start=call)
        case contract.Started(answering, ignored, payer=payer):
            started = pb.Started(
                request_id=request_id,
                model=answering,
                ignored_params=ignored,
                payer=payer,
                replica=replica,
            )
            return pb.CompletionEvent(started=started)
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
        # What this version of the API has no value for is left out.
        efforts=[EFFORTS[name] for name in offered.efforts if name in EFFORTS],
        is_default=offered.default,
    )


def encode_request(line: Mapping[str, Any]) -> pool_pb2.RecentRequest:
    """Encode the metadata of a past request; see `RecentRequests.lines`."""
    end = Timestamp()
    end.FromJsonString(line["time"])
    finish = line["finish"]
    asked = line["model_asked"]
    return pool_pb2.RecentRequest(
        end_time=end,
        request_id=sendable(line["request_id"]),
        api=_APIS.get(line["api"], pool_pb2.API_UNSPECIFIED),
        key=sendable(line["key"]),
        requested_model=None if asked is None else sendable(asked),
        model=sendable(line["model"] or ""),
        session_source=_SOURCES.get(line["session"], pool_pb2.SESSION_SOURCE_UNSPECIFIED),
        queue_duration=_duration(line["queue_ms"]),
        first_token_duration=_duration(line["first_token_ms"]),
        total_duration=_duration(line["total_ms"]),
        finish_reason=FINISH_REASONS.get(finish, pb.FINISH_REASON_UNSPECIFIED),
        error_reason=sendable(line["error"] or ""),
        usage=_usage_of(line),
        error_cause=sendable(line["error_cause"] or ""),
        unseen_calls=line["unseen_calls"],
        labels={sendable(name): sendable(text) for name, text in (line["labels"] or {}).items()},
        cost=pb.Cost(usd=line["cost_usd"], billed=line["billed"], payer=sendable(line["payer"])),
    )


def _usage_of(line: Mapping[str, Any]) -> pb.Usage | None:
    if line["input_tokens"] is None:
        return None
    return pb.Usage(
        input_tokens=line["input_tokens"],
        cache_read_tokens=line["cache_read_tokens"],
        cache_write_tokens=line["cache_write_tokens"],
        output_tokens=line["output_tokens"],
    )


def _duration(milliseconds: int | None) -> Duration | None:
    if milliseconds is None:
        return None
    duration = Duration()
    duration.FromMilliseconds(milliseconds)
    return duration


def timestamp(seconds: float) -> Timestamp | None:
    """None if the value, which comes from outside, is not a valid time."""
    timestamp = Timestamp()
    try:
        timestamp.FromDatetime(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return None
    return timestamp
