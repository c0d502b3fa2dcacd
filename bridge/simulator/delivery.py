"""Sends an answer: streamed or whole, paced, and ended early if a directive requires it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.simulator.api import (
    Message,
    Receive,
    Send,
    left,
    respond,
    should_retry,
    start,
    stream,
    write,
)
from bridge.simulator.ledger import Ledger
from bridge.simulator.script import CONTENT, MESSAGE_DELTA, PLACES, Directive

# Unpaced deltas are sent in batches of this size, because they should be cheap.
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """One answer, ready to be sent."""

    number: int
    request_id: str
    reply: stream.Reply
    envelope: stream.Envelope
    delivery: Directive
    streamed: bool
    headers: Mapping[str, str]


class Delivery:
    """Sends answers, and records in the ledger how each ended. `abort` resets a connection.

    While `closing` is true, connections that are lost count as cut by the simulator.
    """

    def __init__(self, ledger: Ledger, abort: Callable[[Message], None]) -> None:
        self.closing = False
        self._ledger = ledger
        self._abort = abort

    async def deliver(self, plan: Plan, scope: Message, receive: Receive, send: Send) -> None:
        """Write the answer, and detect at once when the client disconnects."""
        answer = self._stream if plan.streamed else self._whole
        answering = asyncio.create_task(answer(plan, scope, send))
        leaving = asyncio.create_task(left(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            # Both can be done: a finished answer also ends the wait for the client's disconnect.
            if answering.done():
                answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
            # A finished answer has recorded its end itself, and the first record counts.
            self._ledger.end(plan.number, "cut" if self.closing else "client_closed")

    async def _stream(self, plan: Plan, scope: Message, send: Send) -> None:
        how = plan.delivery
        await self._before(how)
        self._ledger.answer(plan.number, 200, plan.envelope.usage)
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        await start(send, 200, {**headers, **plan.headers}, plan.request_id)
        if how.stops_after == PLACES["headers"]:
            return await self._stop(plan, scope, send)
        frames = stream.frames(plan.reply, plan.envelope)
        await write(send, next(frames)[1])
        loop = asyncio.get_running_loop()
        delay, started = how.delay_ms / 1000, loop.time()
        batch: list[bytes] = []
        sent = 0
        for is_delta, data in frames:
            if how.stops_after in (sent, _place(data, sent)):
                await write(send, b"".join(batch))
                return await self._stop(plan, scope, send)
            batch.append(data)
            if not is_delta:
                continue
            if delay and sent and (wait := started + sent * delay - loop.time()) > 0:
                await asyncio.sleep(wait)
            sent += 1
            if how.ping_every and sent % how.ping_every == 0:
                batch.append(stream.PING)
            if delay or len(batch) >= _BATCH:
                await write(send, b"".join(batch))
                batch.clear()
                await asyncio.sleep(0)  # neither write yields: others must have their turn
        self._completed(plan)
        await write(send, b"".join(batch), more=False)

    async def _whole(self, plan: Plan, scope: Message, send: Send) -> None:
        how = plan.delivery
        await self._before(how)
        await asyncio.sleep(how.delay_ms / 1000 * len(plan.reply.pieces))
        if plan.reply.endless:
            await _for_ever()
        if how.stops_after is not None:
            return await self._stop(plan, scope, send)
        self._ledger.answer(plan.number, 200, plan.envelope.usage)
        self._completed(plan)
        message = stream.message(plan.reply, plan.envelope)
        await respond(send, 200, message, plan.request_id, plan.headers)

    async def _stop(self, plan: Plan, scope: Message, send: Send) -> None:
        """End an answer early, in the way that the directive requires."""
        how = plan.delivery
        if how.stops_after == how.error_after:
            return await self._fail(plan, send)
        if how.stops_after == how.cut_after:
            self._ledger.end(plan.number, "cut")
            self._abort(scope)
        elif how.stops_after in (how.garbage_after, how.end_after):
            self._ledger.answer(plan.number, 200)
            self._ledger.end(plan.number, "cut")
            if not plan.streamed:
                headers = {"content-type": "application/json", **plan.headers}
                await start(send, 200, headers, plan.request_id)
            garbage = how.stops_after == how.garbage_after
            return await write(send, stream.GARBAGE if garbage else b"", more=False)
        await _for_ever()

    async def _fail(self, plan: Plan, send: Send) -> None:
        failure = plan.delivery.error_event
        if plan.streamed:
            self._ledger.end(plan.number, "cut")
            data = stream.error_event(failure.type, failure.message, plan.request_id)
            return await write(send, data, more=False)
        self._ledger.answer(plan.number, failure.status)
        self._ledger.end(plan.number, "refused")
        retry = {"x-should-retry": should_retry(failure.status)}
        headers = {**retry, **plan.headers, **failure.headers}
        error = stream.error_json(failure.type, failure.message, plan.request_id)
        await respond(send, failure.status, error, plan.request_id, headers)

    def _completed(self, plan: Plan) -> None:
        # Before the last write: a client that has the whole answer finds it ended in the ledger.
        usage = stream.final_usage(plan.reply, plan.envelope)
        self._ledger.end(plan.number, "completed", usage)

    async def _before(self, how: Directive) -> None:
        if how.hang:
            await _for_ever()
        await asyncio.sleep(how.first_delay_ms / 1000)


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _place(frame: bytes, sent: int) -> int:
    """Return the position in the answer of what precedes this event, as directives count it."""
    if frame.startswith(b"event: message_delta"):
        return CONTENT
    return MESSAGE_DELTA if frame.startswith(b"event: message_stop") else sent
