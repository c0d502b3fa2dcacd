"""Collects the events of an answer into one message. Pure."""

from __future__ import annotations

from typing import assert_never

from bridge.core.contract import (
    Citation,
    EncryptedThinking,
    Event,
    Finished,
    Started,
    TextDelta,
    TextStart,
    ThinkingDelta,
    ThinkingSignature,
    ToolCallDelta,
    ToolCallStart,
    UnavailableError,
)
from bridge.grpc_server.wire.encode import FINISH_REASONS, encode_charge, encode_usage, sendable
from bridge.v1 import completion_pb2 as pb


class AnswerCollector:
    """Pass each event to `see`, then take the `response`."""

    def __init__(self, request_id: str, replica: str = "") -> None:
        """`replica` is the name of this server."""
        self._response = pb.CreateCompletionResponse(request_id=request_id, replica=replica)
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[tuple[ToolCallStart, list[str]]] = []

    def see(self, event: Event) -> None:
        match event:
            case TextDelta(text):
                self._text.append(text)
            case ThinkingDelta(text):
                self._thinking.append(text)
            case ToolCallStart():
                self._calls.append((event, []))
            case ToolCallDelta(index, arguments):
                self._calls[index][1].append(arguments)
            case Started(model, ignored, payer=payer):
                self._response.model = model
                self._response.payer = payer
                self._response.ignored_params.extend(ignored)
            case Finished(reason, usage, stop_sequence):
                self._response.finish_reason = FINISH_REASONS[reason]
                self._response.usage.CopyFrom(encode_usage(usage))
                self._response.stop_sequence = sendable(stop_sequence or "")
                if (cost := encode_charge(event.charge)) is not None:
                    self._response.cost.CopyFrom(cost)
            case ThinkingSignature() | EncryptedThinking() | TextStart() | Citation():
                pass  # Only for requests that ask for them, which none over gRPC does.
            case never:
                assert_never(never)

    def response(self) -> pb.CreateCompletionResponse:
        """The complete answer; raises UnavailableError if it ended prematurely."""
        if not self._response.finish_reason:
            raise UnavailableError("The answer ended prematurely. Retry the request.")
        # Joined first: a surrogate pair may be in two fragments.
        self._response.text = sendable("".join(self._text))
        self._response.thinking = sendable("".join(self._thinking))
        for call, arguments in self._calls:
            self._response.tool_calls.add(
                id=sendable(call.id),
                name=sendable(call.name),
                arguments_json=sendable("".join(arguments)),
            )
        return self._response
