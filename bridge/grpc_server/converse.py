"""A call of Converse: incoming messages, the running turn, outgoing events.

One task reads the client's messages and another runs the turn. Both put their output into one
mailbox, so that everything is handled in one place, in order, and no faster than the client reads
the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, assert_never

from bridge.core.contract import (
    BridgeError,
    CompletionRequest,
    DrainingError,
    Finished,
    InternalError,
    QueueFullError,
    Service,
)
from bridge.core.telemetry import Limit, Occupancy, kind_of, trace_of
from bridge.grpc_server.call_context import (
    Calls,
    current_request_id,
    is_cancelled,
    recording_refusals,
)
from bridge.grpc_server.conversation import Conversation, already_open, turn_running
from bridge.grpc_server.mailbox import SILENCE, Heartbeat, Mailbox, Numbered, joined
from bridge.grpc_server.status import rich_status
from bridge.grpc_server.wire.encode import (
    CANCELLED,
    ResponseEncoder,
    encode_error,
)
from bridge.grpc_server.wire.field_names import not_one
from bridge.grpc_server.wire.unknown_fields import unknown_fields
from bridge.v1 import completion_pb2 as pb

_log = logging.getLogger(__name__)

TOO_MANY: Final = "TOO_MANY_CONVERSATIONS"
"""google.rpc.ErrorInfo.reason if a caller has too many open calls."""


@dataclass(frozen=True, slots=True)
class _OfTurn:
    """The output of a turn: an event of its answer, or why it failed."""

    turn: asyncio.Task[None]
    given: Numbered | BaseException


@dataclass(frozen=True, slots=True)
class _HalfClosed:
    """The client has closed its sending side."""


_Mail: TypeAlias = pb.ConverseRequest | _OfTurn | _HalfClosed | Heartbeat | BaseException


def _joined(first: _Mail, second: _Mail) -> _Mail | None:
    """Join deltas of the same turn."""
    match first, second:
        case (_OfTurn(turn, Numbered() as one), _OfTurn(other, Numbered() as two)):
            both = joined(one, two) if turn is other else None
            return None if both is None else _OfTurn(turn, both)
    return None


class OpenConversations:
    """Counts each caller's open calls."""

    def __init__(self, limit: int, occupancy: Occupancy) -> None:
        self._limit = limit
        self._occupancy = occupancy

    @contextmanager
    def one_more(self, caller: str) -> Iterator[None]:
        """Count a call; raises QueueFullError if there are too many."""
        if self._occupancy.held(Limit.CONVERSATIONS, caller) >= self._limit:
            self._occupancy.refused(Limit.CONVERSATIONS)
            raise QueueFullError(
                f"This caller already has {self._limit} open conversations, its limit. Close one.",
                reason=TOO_MANY,
            )
        with self._occupancy.one_more(Limit.CONVERSATIONS, caller, self._limit):
            yield


class ConverseCall:
    def __init__(
        self,
        service: Service,
        calls: Calls,
        conversation: Conversation,
        *,
        new_id: Callable[[], str],
        time_remaining: Callable[[], float | None],
        heartbeat_seconds: float,
        replica: str = "",
    ) -> None:
        """The first turn has the id of the call, later ones get theirs from `new_id`.

        `replica` is the name of this server.
        """
        self._service = service
        self._calls = calls
        self._conversation = conversation
        self._new_id = new_id
        self._time_remaining = time_remaining
        self._mail = Mailbox[_Mail](_joined, silence=heartbeat_seconds, heartbeat=SILENCE)
        self._turn: asyncio.Task[None] | None = None
        self._encoder = ResponseEncoder(pb.ConverseResponse, replica)
        self._turns = 0
        self._sent = 0
        """The sequence number of the last event of the turn."""
        self._half_closed = False

    async def responses(
        self, requests: AsyncIterator[pb.ConverseRequest]
    ) -> AsyncGenerator[pb.ConverseResponse, None]:
        """Yield the responses until the client has half-closed and no turn is running.

        A turn that fails ends in `turn_failed`, and a message that may not come now is answered
        with `message_rejected`. Raises a BridgeError for a fault of the call.
        """
        with self._mail:
            reading = asyncio.create_task(self._read(requests))
            try:
                async with aclosing(self._handled()) as responses:
                    async for response in responses:
                        yield response
            finally:
                await self._stop(reading, self._turn)

    async def _handled(self) -> AsyncGenerator[pb.ConverseResponse, None]:
        while self._turn is not None or not self._half_closed:
            match await self._next():
                case pb.ConverseRequest() as request:
                    for response in await self._take(request):
                        yield response
                case _OfTurn(turn, given) if turn is self._turn:
                    for response in await self._answer(given):
                        yield response
                case _OfTurn():
                    # Late output of a cancelled turn.
                    pass
                case _HalfClosed():
                    self._half_closed = True
                case Heartbeat():
                    yield self._encoder.heartbeat
                case BaseException() as error:
                    raise error
                case never:
                    assert_never(never)

    async def _next(self) -> _Mail:
        if self._turn is not None:
            return await self._mail.get()
        with self._calls.idle():
            return await self._mail.get()

    async def _read(self, requests: AsyncIterator[pb.ConverseRequest]) -> None:
        try:
            async for request in requests:
                await self._mail.put(request)
            await self._mail.put(_HalfClosed())
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled():
                raise
            await self._mail.put(error)

    async def _take(self, request: pb.ConverseRequest) -> tuple[pb.ConverseResponse, ...]:
        """Handle a client message; return what it is answered with by itself."""
        match request.WhichOneof("request"):
            case "open":
                return self._rejected(already_open())
            case "message" | "tool_results" as kind if self._turn is not None:
                return self._rejected(turn_running(kind))
            case "message":
                return self._begin(request, request.message)
            case "tool_results":
                return self._begin(request, request.tool_results)
            case "cancel":
                return await self._cancel()
            case "ping":
                return (self._encoder.heartbeat,)
            case None:
                return self._rejected(not_one(request, "request", "request"))
            case never:
                assert_never(never)

    @staticmethod
    def _rejected(error: BridgeError) -> tuple[pb.ConverseResponse, ...]:
        """Refuse a message that changes nothing, whether or not a turn is running."""
        request_id = current_request_id.get()
        _log.info("request %s: a message of Converse: %s", request_id, kind_of(error))
        status = encode_error(rich_status(error, request_id))
        return (pb.ConverseResponse(message_rejected=status),)

    async def _cancel(self) -> tuple[pb.ConverseResponse, ...]:
        if self._turn is None:
            return ()
        await self._stop(self._turn)
        self._turn = None
        self._conversation.cancel()
        # Always first: it has the turn's request id.
        started = () if self._sent else (self._encoder.started(current_request_id.get()),)
        return tuple(
            pb.ConverseResponse(event=event, sequence_number=number)
            for number, event in enumerate((*started, CANCELLED), self._sent + 1)
        )

    def _begin(
        self, request: pb.ConverseRequest, said: pb.UserMessage | pb.ToolResults
    ) -> tuple[pb.ConverseResponse, ...]:
        """Begin the turn that a message completes, if it does and can."""
        self._calls.check()
        if self._turns:
            # The id of the next turn, or of the error if it cannot start.
            current_request_id.set(self._new_id())
        try:
            with recording_refusals(self._service, self._conversation.model):
                unknown = unknown_fields(request, strict=self._conversation.strict)
                asked = self._conversation.take(said, unknown)
        except BridgeError as error:
            self._turns += 1
            return self._failed(error)
        if asked is None:
            return ()
        self._turns += 1
        self._sent = 0
        asked = replace(asked, request_id=current_request_id.get(), timeout=self._time_remaining())
        self._turn = asyncio.create_task(self._run(asked))
        return ()

    def _failed(self, error: BaseException) -> tuple[pb.ConverseResponse, ...]:
        """Return to the last whole turn; the end of the one that failed.

        Raises DrainingError: this server has no further turns.
        """
        if isinstance(error, DrainingError):
            raise error
        self._conversation.fail()
        request_id = current_request_id.get()
        if isinstance(error, BridgeError):
            _log.info("request %s: a turn of Converse: %s", request_id, kind_of(error))
        else:
            _log.error("request %s: a turn of Converse failed\n%s", request_id, trace_of(error))
            error = InternalError()
        return (pb.ConverseResponse(turn_failed=encode_error(rich_status(error, request_id))),)

    async def _run(self, request: CompletionRequest) -> None:
        turn = asyncio.current_task()
        assert turn is not None
        finished = False
        number = 0
        try:
            async with aclosing(self._service.complete(request)) as events:
                async for event in events:
                    finished = isinstance(event, Finished)
                    number += 1
                    await self._mail.put(_OfTurn(turn, Numbered(event, number)))
            if not finished:
                raise RuntimeError("the answer has no end")
        except (Exception, asyncio.CancelledError) as error:
            # After `finished`, nothing reads the mailbox for this turn.
            if finished or is_cancelled():
                raise
            await self._mail.put(_OfTurn(turn, error))

    async def _answer(self, given: Numbered | BaseException) -> tuple[pb.ConverseResponse, ...]:
        if isinstance(given, BaseException):
            await self._stop(self._turn)
            self._turn = None
            return self._failed(given)
        event, self._sent = given
        self._conversation.see(event)
        if isinstance(event, Finished) and self._turn is not None:
            # The session is released first, so that the next message finds it parked.
            await self._turn
            self._turn = None
        return self._encoder.encode(*given, current_request_id.get())

    @staticmethod
    async def _stop(*tasks: asyncio.Task[None] | None) -> None:
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
