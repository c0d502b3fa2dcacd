"""The state of a conversation, apart from its call: its messages and what may come next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from bridge.core.contract import (
    Citation,
    CompletionRequest,
    EncryptedThinking,
    Event,
    Finished,
    FinishReason,
    Message,
    Part,
    Role,
    Started,
    TextDelta,
    TextPart,
    TextStart,
    ThinkingDelta,
    ThinkingSignature,
    TooLargeError,
    ToolCallDelta,
    ToolCallPart,
    ToolCallStart,
    ToolResultPart,
    placed,
)
from bridge.core.validation import check_message, unknown_call
from bridge.grpc_server.status import OutOfOrderError
from bridge.grpc_server.wire.decode import (
    decode_results,
    decode_said,
    decode_system,
    overridden,
    with_request_id,
)
from bridge.v1 import completion_pb2 as pb


def turn_running(kind: str) -> OutOfOrderError:
    """What to raise for a message that comes before the turn is over."""
    return OutOfOrderError(
        "A turn is still running: wait for finished, or send cancel first.",
        field=kind,
        reason="TURN_RUNNING",
    )


def already_open() -> OutOfOrderError:
    """What to raise for a second `open`."""
    return OutOfOrderError(
        "The conversation is already open. To change its settings, open another one.",
        field="open",
        reason="ALREADY_OPEN",
    )


@dataclass(slots=True)
class _Answer:
    """The answer of a turn, as far as it has arrived."""

    text: list[str] = field(default_factory=list)
    calls: list[tuple[ToolCallStart, list[str]]] = field(default_factory=list)
    size: int = 0

    def see(self, event: Event) -> None:
        match event:
            case TextDelta(text):
                self.text.append(text)
                self.size += len(text)
            case ToolCallStart():
                self.calls.append((event, []))
            case ToolCallDelta(index, arguments):
                self.calls[index][1].append(arguments)
                self.size += len(arguments)
            case Started() | ThinkingDelta() | Finished():
                pass
            case ThinkingSignature() | EncryptedThinking() | TextStart() | Citation():
                pass
            case never:
                assert_never(never)

    def parts(self, *, with_calls: bool) -> tuple[Part, ...]:
        text = "".join(self.text)
        said: tuple[Part, ...] = (TextPart(text),) if text else ()
        if not with_calls:
            return said
        calls = (
            ToolCallPart(call.id, call.name, "".join(arguments), origin="tool_call_delta")
            for call, arguments in self.calls
        )
        return (*said, *calls)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A conversation between two turns."""

    messages: tuple[Message, ...]
    due: tuple[str, ...]
    cut_calls: tuple[Part, ...] | None
    size: int


class Conversation:
    """The messages so far, and the tool results that are due.

    Pass each client message to `take`; if it starts a turn, pass the events of the answer to `see`.
    The turn ends with `Finished`, by `cancel`, or by `fail`.
    """

    def __init__(self, opened: CompletionRequest, max_bytes: int) -> None:
        """Start with the settings and messages of `opened`; hold at most `max_bytes`."""
        self._settings = opened
        self._messages = list(opened.messages)
        self._max_bytes = max_bytes
        self._size = 0
        self._due: dict[str, ToolResultPart | None] = {}
        self._cut_calls: tuple[Part, ...] | None = None
        """If the last answer was truncated, it without its calls, whose results are optional."""
        self._answer: _Answer | None = None
        self._ignored: dict[str, None] = {}
        """Fields without effect of the messages that start the next turn."""
        self._overrides: tuple[pb.TurnOverrides, str] | None = None
        """Settings of the next turn, and what they are called in errors."""
        self._request_id: tuple[str, str] | None = None
        """The caller's own id of the next turn, and what it is called in errors."""
        if self._messages:
            self._await_results(self._messages[-1])
        self._kept = self._now()

    @property
    def model(self) -> str | None:
        """The requested model; None is the default."""
        return self._settings.model

    @property
    def strict(self) -> bool:
        """Whether a parameter without effect is an error."""
        return self._settings.strict

    @property
    def running(self) -> bool:
        """Whether a turn is being answered."""
        return self._answer is not None

    def take(
        self, said: pb.UserMessage | pb.ToolResults, ignored: Sequence[str] = ()
    ) -> CompletionRequest | None:
        """Add a client message; return the request that it completes, None if results are still
        due.

        `ignored` names its fields without effect, which are reported with the turn. Raises
        InvalidRequestError for an invalid message, OutOfOrderError for a misplaced one, and
        TooLargeError; `fail` has to be called then.
        """
        kind = "message" if isinstance(said, pb.UserMessage) else "tool_results"
        assert not self.running
        self._grow(said.ByteSize(), kind)
        self._ignored |= dict.fromkeys(ignored)
        if said.HasField("overrides"):
            self._overrides = said.overrides, f"{kind}.overrides"
        if said.request_id:
            self._request_id = said.request_id, f"{kind}.request_id"
        if isinstance(said, pb.UserMessage):
            message = self._said(said)
            if said.system:
                self._messages.append(decode_system(said))
        else:
            self._take_results(said)
            results = [result for result in self._due.values() if result is not None]
            if len(results) < len(self._due):
                return None
            message = Message(Role.USER, tuple(results), origin=kind)
        settings = self._settings
        if self._overrides is not None:
            settings = overridden(settings, *self._overrides)
        if self._request_id is not None:
            settings = with_request_id(settings, *self._request_id)
        self._due = {}
        self._cut_calls = None
        self._messages.append(message)
        self._answer = _Answer()
        ignored = (*settings.ignored, *self._ignored)
        self._ignored, self._overrides, self._request_id = {}, None, None
        system, messages = placed(settings.system, self._messages)
        return replace(settings, messages=messages, system=system, conversing=True, ignored=ignored)

    def see(self, event: Event) -> None:
        """Record an event of the answer."""
        assert self._answer is not None
        self._answer.see(event)
        if isinstance(event, Finished):
            cut = event.reason is FinishReason.LENGTH
            self._end(with_calls=cut or event.reason is FinishReason.TOOL_CALLS, cut=cut)

    def cancel(self) -> None:
        """End the turn with the answer so far."""
        self._end(with_calls=False)

    def fail(self) -> None:
        """Return to the end of the last turn: what was sent since has to be sent again."""
        self._answer = None
        self._messages = list(self._kept.messages)
        self._due = dict.fromkeys(self._kept.due)
        self._cut_calls = self._kept.cut_calls
        self._size = self._kept.size
        self._ignored, self._overrides, self._request_id = {}, None, None

    def _now(self) -> _Kept:
        return _Kept(tuple(self._messages), tuple(self._due), self._cut_calls, self._size)

    def _end(self, *, with_calls: bool, cut: bool = False) -> None:
        assert self._answer is not None
        answer, self._answer = self._answer, None
        self._size += answer.size
        if parts := answer.parts(with_calls=with_calls):
            message = Message(Role.ASSISTANT, parts, origin="message")
            self._messages.append(message)
            self._await_results(message)
            if cut and self._due:
                self._cut_calls = answer.parts(with_calls=False)
        self._kept = self._now()

    def _await_results(self, message: Message) -> None:
        self._due = {part.id: None for part in message.parts if isinstance(part, ToolCallPart)}

    def _said(self, said: pb.UserMessage) -> Message:
        if self._cut_calls is not None:
            self._forget_calls(self._cut_calls)
        if missing := [call_id for call_id, result in self._due.items() if result is None]:
            raise OutOfOrderError(
                f"Send the results of these tool calls first: {', '.join(missing)}.",
                field="message",
                reason="TOOL_RESULTS_DUE",
            )
        message = decode_said(said)
        check_message(message, self._settings.field_names)
        return message

    def _forget_calls(self, said: tuple[Part, ...]) -> None:
        """Drop the calls of the last answer: the client continues without their results."""
        answer = self._messages.pop()
        if said:
            self._messages.append(replace(answer, parts=said))
        self._due = {}
        self._cut_calls = None

    def _take_results(self, said: pb.ToolResults) -> None:
        for result in decode_results(said):
            # Now, not when the turn begins: other results may still be due.
            message = Message(Role.USER, (result,), origin="tool_results")
            check_message(message, self._settings.field_names)
            if result.call_id not in self._due or self._due[result.call_id] is not None:
                raise unknown_call(result.call_id, result.origin, f"{result.origin}.call_id")
            self._due[result.call_id] = result

    def _grow(self, size: int, kind: str) -> None:
        self._size += size
        if self._size > self._max_bytes:
            raise TooLargeError(
                f"The conversation is larger than {self._max_bytes} bytes. Open another one.",
                field=kind,
            )
