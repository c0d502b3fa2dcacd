"""The context of a call: its id, its key, its time limits, and how it is ended.

The tasks of running calls are kept, so that a drain can wait for them.
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

ERROR_KEY: Final = "x-bridge-error"
"""The metadata key that carries the reason of an error: proxies decide by it whether to retry."""

REPLICA_KEY: Final = "x-bridge-replica"
"""The metadata key that carries the name of the server."""

QUEUE_TIMEOUT_KEY: Final = "x-bridge-queue-timeout"
FIRST_TOKEN_TIMEOUT_KEY: Final = "x-bridge-first-token-timeout"
IDLE_TIMEOUT_KEY: Final = "x-bridge-idle-timeout"
"""The limit of the whole request is the deadline of the call."""

_DRAINING: Final = "The server is shutting down."

current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")
"""Set by the interceptor for the task of each call."""

current_grant: ContextVar[Grant] = ContextVar("current_grant", default=ANYONE)
"""The key of the call. Set by the interceptor for the task of each call."""


def new_request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def current_caller() -> str:
    """The name of the call's key; empty if no key is required."""
    return current_grant.get().name


def with_call_context(
    request: CompletionRequest, context: grpc.aio.ServicerContext[Any, Any]
) -> CompletionRequest:
    """Add the owner, and the time limits of the metadata.

    Raises InvalidRequestError, which names the key.
    """
    given = dict(context.invocation_metadata() or ())

    def seconds(key: str) -> float | None:
        value = given.get(key)
        # Only keys that end in -bin have bytes.
        return None if value is None else seconds_from(f"The metadata {key}", str(value), field=key)

    return replace(
        request,
        owner=current_grant.get().owner,
        queue_timeout=seconds(QUEUE_TIMEOUT_KEY),
        first_token_timeout=seconds(FIRST_TOKEN_TIMEOUT_KEY),
        idle_timeout=seconds(IDLE_TIMEOUT_KEY),
    )


@contextmanager
def recording_refusals(service: Service, model: str | None) -> Iterator[None]:
    """Have the core record a request for this model that cannot be decoded."""
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
    """Whether this task was cancelled, as opposed to something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Calls:
    """The tasks of the bridge's own calls, without grpc.health.v1 and reflection.

    A call is idle while nothing is being answered in it. When a drain starts, or its key is
    revoked, an idle call is ended at once; other calls finish their answer first.
    """

    def __init__(self, check: Callable[[Grant], None] = lambda grant: None) -> None:
        """`check` raises a BridgeError if the grant of a call is no longer valid."""
        self._check = check
        self._running: set[asyncio.Task[Any]] = set()
        self._idle: dict[asyncio.Task[Any], Grant] = {}
        self._ended: dict[asyncio.Task[Any], BridgeError] = {}
        self._draining = False

    def __len__(self) -> int:
        """The number of calls that have not ended, their cleanup included."""
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
        """Count the current call as idle within the block.

        Raises DrainingError if a drain has started, and what `check` raises.
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
        """Raise a BridgeError if the grant of the current call is no longer valid."""
        self._check(current_grant.get())

    def recheck(self) -> None:
        """End the idle calls whose grant is no longer valid."""
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
        self._end(self._running, DrainingError(_DRAINING))

    def reason_to_end(self) -> BridgeError | None:
        """Why the current task was cancelled, if `Calls` cancelled it."""
        task = asyncio.current_task()
        return None if task is None else self._ended.get(task)

    async def finished(self, seconds: float) -> bool:
        """Wait for the running calls; return whether all have ended."""
        if not self._running:
            return True
        _, pending = await asyncio.wait(set(self._running), timeout=seconds)
        return not pending

    def _end(self, tasks: set[asyncio.Task[Any]], reason: BridgeError) -> None:
        for task in tasks & self._running:
            if not task.cancelling():
                # The others are already cleaning up.
                self._ended[task] = reason
                task.cancel()
