"""What belongs to a call: its id, its key, its limits of time, and how it is ended.

The tasks of the calls that run are kept, so that a drain waits for them.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

import grpc

from bridge.core.access import ANYONE, Grant
from bridge.core.contract import BridgeError, CompletionRequest, DrainingError, Service
from bridge.core.validation import seconds_from

REQUEST_ID_KEY: Final = "x-request-id"
"""The metadata key that carries the id to the client."""

QUEUE_TIMEOUT_KEY: Final = "x-bridge-queue-timeout"
FIRST_TOKEN_TIMEOUT_KEY: Final = "x-bridge-first-token-timeout"
IDLE_TIMEOUT_KEY: Final = "x-bridge-idle-timeout"
"""The limit of the whole is the deadline of the call."""

_DRAINING: Final = "The server is shutting down."

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")
"""Set by the interceptor for the task of each call."""

current_grant: ContextVar[Grant] = ContextVar("current_grant", default=ANYONE)
"""By which key the call came in. Set by the interceptor for the task of each call."""


def new_request_id() -> str:
    """Make an id that no other request has."""
    return f"req_{uuid.uuid4().hex}"


def current_caller() -> str:
    """The name of the call's key; empty where none is asked for."""
    return current_grant.get().name


def with_time_limits(
    request: CompletionRequest, context: grpc.aio.ServicerContext[Any, Any]
) -> CompletionRequest:
    """Add the limits that the call brings; raises InvalidRequestError, which names the key."""
    given = dict(context.invocation_metadata() or ())

    def seconds(key: str) -> float | None:
        value = given.get(key)
        # Bytes only where a key ends in -bin.
        return None if value is None else seconds_from(f"The metadata {key}", str(value), field=key)

    return replace(
        request,
        queue_timeout=seconds(QUEUE_TIMEOUT_KEY),
        first_token_timeout=seconds(FIRST_TOKEN_TIMEOUT_KEY),
        idle_timeout=seconds(IDLE_TIMEOUT_KEY),
    )


@contextmanager
def recording_refusals(service: Service, model: str | None) -> Iterator[None]:
    """Have the core take note of a request for this model that cannot be read."""
    try:
        yield
    except Exception as error:
        asked = CompletionRequest(
            (),
            model=model or None,
            request_id=current_request_id.get(),
            caller=current_caller(),
            api="grpc",
        )
        service.refused(asked, error)
        raise


def is_cancelled() -> bool:
    """Whether this task was cancelled, as opposed to something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Calls:
    """The tasks of the bridge's own calls; grpc.health.v1 and reflection are not among them.

    A call is idle while nothing is being answered in it: a drain ends it at once, and waits only
    for the others; so does the end of its key, which lets an answer come to its end.
    """

    def __init__(self, check: Callable[[Grant], None] = lambda grant: None) -> None:
        """`check` raises a BridgeError where what a call was granted holds no longer."""
        self._check = check
        self._running: set[asyncio.Task[Any]] = set()
        self._idle: dict[asyncio.Task[Any], Grant] = {}
        self._ended: dict[asyncio.Task[Any], BridgeError] = {}
        self._draining = False

    def __len__(self) -> int:
        """How many have not ended, their cleanup included."""
        return len(self._running)

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Count the current task as a call."""
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)
            self._ended.pop(task, None)

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Count the current call as idle.

        Raises DrainingError where a drain has begun, and what `check` raises.
        """
        if self._draining:
            raise DrainingError(_DRAINING)
        self.check()
        task = asyncio.current_task()
        assert task is not None
        self._idle[task] = current_grant.get()
        try:
            yield
        finally:
            self._idle.pop(task, None)

    def check(self) -> None:
        """Raise a BridgeError where what the current call was granted holds no longer."""
        self._check(current_grant.get())

    def recheck(self) -> None:
        """End the idle calls whose grant holds no longer."""
        for task, grant in list(self._idle.items()):
            try:
                self._check(grant)
            except BridgeError as error:
                self._end({task}, error)

    def drain(self) -> None:
        """End the idle calls, now and from now on."""
        self._draining = True
        self._end(set(self._idle), DrainingError(_DRAINING))

    def end(self) -> None:
        """End every call."""
        self._end(self._running, DrainingError(_DRAINING))

    def reason_to_end(self) -> BridgeError | None:
        """Why the current task was cancelled, if that was done here."""
        task = asyncio.current_task()
        return None if task is None else self._ended.get(task)

    async def finished(self, seconds: float) -> bool:
        """Wait for the calls that run; says whether all ended."""
        if not self._running:
            return True
        _, pending = await asyncio.wait(set(self._running), timeout=seconds)
        return not pending

    def _end(self, tasks: set[asyncio.Task[Any]], reason: BridgeError) -> None:
        for task in tasks & self._running:
            if not task.cancelling():
                # The others are at their cleanup already.
                self._ended[task] = reason
                task.cancel()
