"""The answers that run or are recorded: by id, for every API the same.

An answer is streamed to the client that asked for it, and ends with it; or it is detached, and goes
on in a task of the server. Both can be cancelled by id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, TypeAlias

from bridge.core.answers.claims import Claim, Claims, digest_of, in_use
from bridge.core.answers.fleet import Alone, Fleet
from bridge.core.answers.recording import Recording
from bridge.core.answers.recordings import RecordingLimits, Recordings
from bridge.core.answers.streamed import StreamedRequest, cancelled
from bridge.core.contract import (
    AnswerElsewhereError,
    BridgeError,
    CompletionRequest,
    DrainingError,
    Event,
    InternalError,
    NotFoundError,
    OnEnd,
    shown,
)
from bridge.core.system import off_loop
from bridge.core.telemetry import trace_of
from bridge.core.validation import is_large

logger = logging.getLogger(__name__)

CLAIM_SECONDS: Final = 600.0
"""How long a caller's request id is taken after the end of its answer, in seconds."""
MOST_CLAIMS: Final = 10_000
"""The same, in requests of one key."""
_END_SECONDS: Final = 5.0
"""How long the end of the server waits for what follows an answer, in seconds."""

Complete: TypeAlias = Callable[
    [CompletionRequest, Callable[[], None], Callable[[], bool]], AsyncGenerator[Event, None]
]
"""Streams an answer. The second argument is called once the request waits for a process, the third
returns whether the request was cancelled by its id."""
Refused: TypeAlias = Callable[[CompletionRequest, Exception], None]
"""Records a request that is not answered."""


class Answers:
    """Runs requests, and keeps what is known of them by their ids."""

    def __init__(
        self,
        complete: Complete,
        refused: Refused,
        limits: RecordingLimits = RecordingLimits(),  # noqa: B008 - frozen
        *,
        fleet: Fleet | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`complete` answers a request and records it; `clock` is monotonic."""
        self._fleet = fleet or Alone()
        self._limits = limits
        self._answered = complete
        self._refused = refused
        self._clock = clock
        self._now = now
        self._claims = Claims(CLAIM_SECONDS, MOST_CLAIMS)
        self._running: dict[tuple[str, str], StreamedRequest] = {}
        self._recordings = Recordings(limits, clock)
        self._tasks: set[asyncio.Task[None]] = set()

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """See `Service.complete`."""
        claim = await self._claimed(request)
        running = StreamedRequest()
        key = (request.owner, request.request_id)
        self._running[key] = running
        try:
            answer = self._answered(request, _nothing, lambda: running.cancelled)
            async with aclosing(answer) as events:
                while (event := await running.next(events)) is not None:
                    self._answering(claim)
                    yield event
        finally:
            if self._running.get(key) is running:
                del self._running[key]
            self._end_claim(claim)

    async def detach(self, request: CompletionRequest, on_end: OnEnd | None = None) -> Recording:
        """See `Service.detach`."""
        digest = await _digest(request, detached=True)
        try:
            recording = self._begin(request, digest, on_end)
        except BridgeError as error:
            self._refused(request, error)
            raise
        try:
            await recording.admitted.wait()
        except asyncio.CancelledError:
            if not request.client_request_id:
                # Nobody knows its id.
                recording.cancel()
            raise
        if recording.refused and recording.error is not None:
            self._recordings.drop(recording)
            raise recording.error.again()
        return recording

    async def attach(self, owner: str, id: str) -> Recording:
        """See `Service.attach`."""
        recording = self._recordings.find(owner, self._request_id(owner, id))
        if recording is not None:
            return recording
        await self._look_elsewhere(owner, id)
        raise NotFoundError(
            f"There is no detached answer with the id {shown(id)}: it was never started, or is "
            "no longer kept.",
            field="request_id",
            reason="ANSWER_NOT_FOUND",
            id=id,
        )

    async def cancel(self, owner: str, id: str) -> None:
        """See `Service.cancel`."""
        running = self._running.get((owner, self._request_id(owner, id)))
        if running is not None:
            running.cancel()
            return
        try:
            recording = await self.attach(owner, id)
        except NotFoundError:
            raise NotFoundError(
                f"No request with the id {shown(id)} is running.",
                field="request_id",
                reason="REQUEST_NOT_FOUND",
                id=id,
            ) from None
        await _ended(recording)

    async def forget(self, owner: str, id: str) -> bool:
        """See `Service.forget`."""
        recording = self._recordings.find(owner, self._request_id(owner, id))
        if recording is None:
            await self._look_elsewhere(owner, id, running=True)
            return False
        await _ended(recording)
        self._recordings.drop(recording)
        return True

    async def finished(self) -> None:
        """Wait for the detached answers, and for what follows each."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """End the detached answers, once nothing answers them any more."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_END_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._recordings.close()

    def _request_id(self, owner: str, id: str) -> str:
        if (owner, id) in self._running or self._recordings.find(owner, id) is not None:
            return id
        return self._claims.request_id(owner, id) or id

    async def _look_elsewhere(self, owner: str, id: str, *, running: bool = False) -> None:
        """Raise AnswerElsewhereError if another server has it; with `running`, if it runs there."""
        found = await self._fleet.find(owner, id)
        if found is not None and (found.running or not running):
            raise AnswerElsewhereError(id, found.replica, field="request_id")

    # Claims

    async def _claimed(self, request: CompletionRequest) -> Claim | None:
        if not request.client_request_id:
            return None
        digest = await _digest(request, detached=False)
        claim: Claim | None = None
        try:
            claim, _ = self._claims.claim(request, digest, self._clock(), detached=False)
            await self._fleet.claim(request, claim)
        except BaseException as error:
            self._end_claim(claim)
            if isinstance(error, BridgeError):
                self._refused(request, error)
            raise
        return claim

    def _answering(self, claim: Claim | None) -> None:
        """Record that the answer has begun."""
        if claim is not None and not claim.answered:
            claim.answered = True
            self._fleet.changed(claim)

    def _end_claim(self, claim: Claim | None) -> None:
        if claim is not None:
            self._claims.end(claim, self._clock())
            self._fleet.changed(claim)

    # Detached answers

    def _begin(self, request: CompletionRequest, digest: bytes, on_end: OnEnd | None) -> Recording:
        """Start an answer, or find the one of an equal request with the same id."""
        claim = None
        if request.client_request_id:
            claim, new = self._claims.claim(request, digest, self._clock(), detached=True)
            if not new:
                found = self._recordings.find(request.owner, claim.request_id)
                if found is None:
                    raise in_use(request, claim)
                return found
        recording = Recording(request, self._now(), on_end)
        try:
            self._recordings.add(recording)
        except BridgeError:
            self._end_claim(claim)
            raise
        task = asyncio.create_task(self._record(recording, request, claim))
        recording.task = task
        self._tasks.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not recording.ended:
                # Cancelled before its first step, so that nothing of it has run.
                error = _why_cancelled(recording)
                self._refused(request, error)
                self._end(recording, claim, error)

        task.add_done_callback(done)
        return recording

    async def _record(
        self, recording: Recording, request: CompletionRequest, claim: Claim | None
    ) -> None:
        self._end(recording, claim, await self._recorded(recording, request, claim))
        try:
            if recording.on_end is not None and not recording.refused:
                await recording.on_end(recording)
        except Exception as failure:  # noqa: BLE001 - the answer itself is complete
            logger.error("request %s: %s", request.request_id, trace_of(failure))
        finally:
            # Not before it is stored: until then, others take it for running.
            seconds = 0.0 if recording.refused else self._limits.seconds
            self._fleet.ended(recording.owner, recording.request_id, seconds)

    async def _claimed_by_all(
        self, recording: Recording, request: CompletionRequest, claim: Claim
    ) -> None:
        """Claim the id of a detached request in the fleet; record a refusal."""
        try:
            await self._fleet.claim(request, claim)
        except BridgeError as error:
            self._refused(request, error)
            raise
        except asyncio.CancelledError:
            self._refused(request, _why_cancelled(recording))
            raise

    async def _recorded(
        self, recording: Recording, request: CompletionRequest, claim: Claim | None
    ) -> BridgeError | None:
        """Record the answer to its end; return its error."""
        try:
            if claim is not None:
                await self._claimed_by_all(recording, request, claim)
            self._fleet.started(recording.owner, recording.request_id)
            answer = self._answered(request, recording.admitted.set, lambda: recording.cancelled)
            async with aclosing(answer) as events:
                async for event in events:
                    self._answering(claim)
                    try:
                        self._recordings.record(recording, event)
                    except BridgeError as error:
                        # Thus it ends what is answered, too, which logs it. No client has left.
                        await events.athrow(error)
        except BridgeError as error:
            return error
        except asyncio.CancelledError:
            return None if recording.complete else _why_cancelled(recording)
        except Exception as failure:  # noqa: BLE001 - it is logged, and reported as ours
            logger.error("request %s failed\n%s", request.request_id, trace_of(failure))
            return InternalError()
        return None

    def _end(self, recording: Recording, claim: Claim | None, error: BridgeError | None) -> None:
        self._end_claim(claim)
        recording.refused = error is not None and not recording.admitted.is_set()
        self._recordings.end(recording, error)


async def _ended(recording: Recording) -> None:
    """End a detached answer, and wait for what follows it."""
    recording.cancel()
    if recording.task is not None:
        await asyncio.wait((recording.task,))


def _why_cancelled(recording: Recording) -> BridgeError:
    if recording.cancelled:
        return cancelled()
    return DrainingError("The server is shutting down.")


async def _digest(request: CompletionRequest, *, detached: bool) -> bytes:
    if not request.client_request_id:
        return b""
    return await off_loop(is_large(request), digest_of, request, detached=detached)


def _nothing() -> None:
    """What is called once a request is admitted whose client waits for its answer anyway."""
