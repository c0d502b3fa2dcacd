"""Surrounds every call: its id, authentication, tracking, errors.

The text of an exception that leaves a handler would reach the client, and a CancelledError that
leaves one without the client's doing would keep the client waiting until its deadline. So every
exception is caught here, and only errors that the core wrote for the caller are sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from functools import partial
from inspect import isasyncgenfunction
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from bridge.core import contract
from bridge.core.access import Grant
from bridge.core.telemetry import TraceContext, incoming_trace, kind_of, trace_of
from bridge.grpc_server.authenticator import CallAuthenticator, needed_for
from bridge.grpc_server.call_context import (
    ERROR_KEY,
    REPLICA_KEY,
    REQUEST_ID_KEY,
    Calls,
    current_grant,
    current_request_id,
    is_cancelled,
    new_request_id,
)
from bridge.grpc_server.connections.stalls import StallTimeout
from bridge.grpc_server.connections.streams import Streams
from bridge.grpc_server.receiving import Receiver
from bridge.grpc_server.status import CallStatus, status_of

_log = logging.getLogger(__name__)

KEYLESS_BYTES: Final = 4096
"""The maximum request of a method that requires no key. A health watch keeps its request in memory
as long as its caller wants, and 30 MB of one letter cross the network as 30 kB."""

_UNKNOWN_METHOD: Final = CallStatus(
    # In the words of gRPC itself.
    grpc.StatusCode.UNIMPLEMENTED,
    "Method not found!",
    ((ERROR_KEY, "UNKNOWN_METHOD"),),
)
_STATUS_SECONDS: Final = 1.0
_CANCELLED_SECONDS: Final = 1.0

_Wire: TypeAlias = Any
"""A message of any method, or its bytes."""
_Context: TypeAlias = grpc.aio.ServicerContext[_Wire, _Wire]
_Handler: TypeAlias = "grpc.RpcMethodHandler[_Wire, _Wire]"  # a generic only in its stubs
_Coroutine: TypeAlias = Callable[[_Wire, _Context], Awaitable[_Wire]]
_Metadata: TypeAlias = tuple[tuple[str, str], ...]
_Decode: TypeAlias = Callable[[bytes], _Wire]


class _UnknownMethodError(Exception):
    """No service has a method of this name."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Gives each call an id, authenticates it, counts it as running, and maps exceptions."""

    def __init__(
        self,
        calls: Calls,
        authenticator: CallAuthenticator,
        receiver: Receiver,
        streams: Streams,
        *,
        stall_seconds: float,
        max_message_bytes: int,
        replica: str = "",
        make_id: Callable[[], str] = new_request_id,
    ) -> None:
        """`replica` is the name of this server; empty if it has none."""
        self._calls = calls
        self._authenticator = authenticator
        self._receiver = receiver
        self._streams = streams
        self._stall_seconds = stall_seconds
        self._max_message_bytes = max_message_bytes
        self._own_metadata = ((REPLICA_KEY, replica),) if replica else ()
        self._make_id = make_id

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Wrap the handler of a call; an unknown method gets one that refuses."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return self._refused(_UnknownMethodError(), method)
        try:
            grant = self._authenticator.admit(
                method, handler_call_details.invocation_metadata or ()
            )
        except Exception as error:  # noqa: BLE001 - raised again where all are mapped
            return self._refused(error, method)
        return self._wrapped(handler, method, grant)

    def _refused(self, error: Exception, method: str) -> _Handler:
        async def refuse(requests: _Wire, context: _Context) -> None:
            raise error

        # On the wire every method is a stream; handled as one, it does not wait for a message.
        guarded = self._guarded(refuse, method, None, single=False)
        return grpc.stream_stream_rpc_method_handler(guarded)

    def _wrapped(self, handler: _Handler, method: str, grant: Grant) -> _Handler:
        # A streamed answer is written by a coroutine, not yielded by an async generator: grpc.aio
        # leaves a generator that is cancelled during a write to the garbage collector, and with
        # it whatever its `finally` would release.
        # Decoding runs inside the handler, at each read. A single request, too, is handled as a
        # stream of one: otherwise it would be read and decoded before the handler, where errors are
        # not caught and the time it takes to arrive is not limited.
        limit = KEYLESS_BYTES if needed_for(method) is None else self._max_message_bytes
        deserializer = partial(_decoded, decode=handler.request_deserializer, limit=limit)
        behaviour: Any
        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler
            behaviour = handler.stream_stream or handler.unary_stream
            answer = self._stream(behaviour) if isasyncgenfunction(behaviour) else behaviour
        else:
            make = grpc.stream_unary_rpc_method_handler
            behaviour = handler.stream_unary or handler.unary_unary
            answer = self._unary(behaviour)
        guarded = self._guarded(answer, method, grant, single=not handler.request_streaming)
        return make(guarded, deserializer, handler.response_serializer)

    def _guarded(
        self, answer: _Coroutine, method: str, grant: Grant | None, *, single: bool
    ) -> _Coroutine:
        """Wrap a handler; with `single`, it gets the only request instead of the stream."""

        async def guarded(requests: _Wire, context: _Context) -> _Wire:
            current_request_id.set(self._make_id())
            _join_trace(context)
            request = None
            ours = method.startswith("/bridge.")
            tracked = self._calls.tracked() if ours else nullcontext()
            with self._streams.one_more(context.peer()), tracked:
                try:
                    try:
                        # Close the iterator, and below drop the request: of an aborted call,
                        # grpc.aio keeps open iterators and the contents of its frames, the last
                        # message among them, in cycles until the garbage collector runs.
                        async with aclosing(aiter(requests)) as messages:
                            request = messages
                            if single and grant is not None:
                                needs_key = needed_for(method) is not None
                                request = await self._receiver.single(
                                    messages, grant.name, needs_key=needs_key
                                )
                            if grant is not None:
                                current_grant.set(
                                    self._authenticator.identify(grant, method, context)
                                )
                            if single or ours or grant is None:
                                return await answer(request, context)
                            async with self._receiver.stream(grant.name):
                                return await answer(request, context)
                    except (Exception, asyncio.CancelledError) as error:
                        status = self._status(error, method)
                        if status is None:
                            raise
                    request = None
                    await _abort(context, status, self._own_metadata)
                except grpc.aio.InternalError:
                    # A write failed: the client already has its status, or has disconnected.
                    # grpc.aio would log this with a traceback, but not a cancelled call.
                    raise asyncio.CancelledError from None

        return guarded

    def _stream(
        self, behaviour: Callable[[_Wire, _Context], AsyncGenerator[_Wire, None]]
    ) -> _Coroutine:
        async def stream(request: _Wire, context: _Context) -> None:
            with StallTimeout(self._stall_seconds) as stall:
                try:
                    async with aclosing(behaviour(request, context)) as responses:
                        await _write_all(responses, context, stall, self._own_metadata)
                except asyncio.CancelledError:
                    if not stall.stalled:
                        raise
                    _uncancel()
                    raise contract.ClientClosedError(
                        f"The client did not read the answer for {self._stall_seconds:g} seconds."
                    ) from None

        return stream

    def _unary(self, behaviour: _Coroutine) -> _Coroutine:
        async def unary(request: _Wire, context: _Context) -> _Wire:
            response = await behaviour(request, context)
            await _send_head(context, self._own_metadata)
            return response

        return unary

    def _status(self, error: BaseException, method: str) -> CallStatus | None:
        """The status for the client; None if grpc.aio itself has to handle the exception."""
        # In a conversation, each turn has its own id.
        request_id = current_request_id.get()
        if isinstance(error, asyncio.CancelledError) and is_cancelled():
            reason = self._calls.reason_to_end()
            if reason is None:
                return None
            _uncancel()
            error = reason
        if isinstance(error, contract.BridgeError):
            status = status_of(error, request_id)
            _log.info("request %s: %s: %s", request_id, method, kind_of(error))
            return status
        if isinstance(error, grpc.aio.BaseError) and not isinstance(error, grpc.aio.UsageError):
            # Aborted by the handler, or the server has stopped.
            return None
        ours = method.startswith("/bridge.")
        if isinstance(error, _UnknownMethodError) or (
            # A generated method without an implementation: Health.List.
            isinstance(error, NotImplementedError) and not ours
        ):
            return _UNKNOWN_METHOD
        _log.error("request %s: %s failed\n%s", request_id, method, trace_of(error))
        return status_of(contract.InternalError(), request_id)


def _join_trace(context: _Context) -> None:
    """Record the trace that the caller's request belongs to, if any."""
    metadata = dict(context.invocation_metadata() or ())
    parent, state = metadata.get("traceparent"), metadata.get("tracestate", "")
    if isinstance(parent, str) and isinstance(state, str):
        incoming_trace.set(TraceContext(parent, state))


def _uncancel() -> None:
    """Mark the cancellation that was just caught as handled."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


async def _write_all(
    responses: AsyncGenerator[_Wire, None],
    context: _Context,
    stall: StallTimeout,
    own_metadata: _Metadata,
) -> None:
    now = asyncio.get_running_loop().time
    begun = False
    try:
        async for response in responses:
            stall.since = now()
            if not begun:
                # Not earlier: once a client has seen metadata, its retry policy no longer applies,
                # and a call that fails before the first event may be retried.
                await _send_head(context, own_metadata)
                begun = True
            await context.write(response)
            stall.since = None
    except grpc.aio.InternalError:
        # The call is over, and grpc.aio is about to cancel this task. The cancellation is awaited
        # here, so that it does not hit the cleanup of the answer.
        stall.since = None
        await asyncio.sleep(_CANCELLED_SECONDS)
        raise
    finally:
        stall.since = None


async def _abort(context: _Context, status: CallStatus, own_metadata: _Metadata) -> NoReturn:
    try:
        async with asyncio.timeout(_STATUS_SECONDS):
            metadata = (*status.trailing_metadata, *own_metadata)
            await context.abort(status.code, status.details, metadata)
    except TimeoutError:
        # The client does not read. gRPC has the status and delivers it if the client resumes;
        # there is no need to wait.
        raise asyncio.CancelledError from None


def _decoded(request: _Wire, decode: _Decode | None, limit: int) -> _Wire:
    if len(request) > limit:
        raise contract.TooLargeError(f"A message of this method may have at most {limit} bytes.")
    if decode is None:
        return request
    try:
        return decode(request)
    except DecodeError:
        raise contract.InvalidRequestError(
            "The request is not a valid protocol buffer message of the method's request type.",
            reason="MALFORMED_MESSAGE",
        ) from None


async def _send_head(context: _Context, own_metadata: _Metadata) -> None:
    request_id = (REQUEST_ID_KEY, current_request_id.get())
    await context.send_initial_metadata((request_id, *own_metadata))
