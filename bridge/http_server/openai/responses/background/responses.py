"""Responses that go on without their client: started, retrieved, streamed again, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from starlette.responses import Response

from bridge.core.contract import (
    AnswerElsewhereError,
    BridgeError,
    CompletionRequest,
    DetachedAnswer,
    Event,
    Finished,
    NotFoundError,
    Started,
)
from bridge.core.system import off_loop
from bridge.http_server.context import ServerContext
from bridge.http_server.dialect import JsonDict
from bridge.http_server.errors import json_response
from bridge.http_server.openai.responses.background.encode import (
    BackgroundCompactionEncoder,
    BackgroundStreamEncoder,
)
from bridge.http_server.openai.responses.background.ids import elsewhere, hex_of, response_id
from bridge.http_server.openai.responses.background.rules import Storage
from bridge.http_server.openai.responses.compaction.answers import CompactionCollector
from bridge.http_server.openai.responses.decode import ResponseCall
from bridge.http_server.openai.responses.echo import echo_of
from bridge.http_server.openai.responses.encode import ResponseCollector
from bridge.http_server.openai.responses.stored.keeping import Keeper
from bridge.http_server.openai.responses.wire import ResponsesRequest
from bridge.http_server.sse import EventStreamResponse, ignored_header, payer_header

C = TypeVar("C", bound=ResponseCollector)

PENDING: Final = frozenset({"queued", "in_progress"})
"""The statuses of a response that has not ended."""

MANY_EVENTS: Final = 500
"""More are collected off the event loop."""


class BackgroundResponse:
    """One response, made from the recorded events of its answer.

    The core keeps it as long as the answer, since `conclude` is called at the end of that.
    """

    def __init__(
        self, owner: str, call: ResponseCall, created: int, clock: Callable[[], float]
    ) -> None:
        """`created` is in Unix seconds."""
        self.owner = owner
        self.call = call
        self.answer: DetachedAnswer | None = None
        """None until the request is admitted."""
        self._created = created
        self._clock = clock
        self._keeper: Keeper | None = None
        self._placed = asyncio.Event()
        self._concluded = asyncio.Event()
        self._final: JsonDict | None = None

    @property
    def id(self) -> str:
        """The id of the response."""
        return response_id(self.call.hex)

    @property
    def request_id(self) -> str:
        """The id of the request whose answer it is."""
        return f"req_{self.call.hex}"

    @property
    def concluded(self) -> bool:
        """Whether it has ended, and is stored if possible."""
        return self._concluded.is_set()

    @property
    def ignored(self) -> tuple[str, ...]:
        """The parameters without effect, as far as they are known."""
        started = self._started
        return (*self.call.request.ignored, *(() if started is None else started.ignored))

    @property
    def payer(self) -> str:
        """Who pays for the answer, if it has started and the server has a list of payers."""
        return "" if self._started is None else self._started.payer

    @property
    def _started(self) -> Started | None:
        recorded = () if self.answer is None else self.answer.recorded[:1]
        return next((event for event in recorded if isinstance(event, Started)), None)

    def kept_by(self, keeper: Keeper) -> None:
        """Have the response stored once it has ended."""
        self._keeper = keeper

    async def place(self, keeper: Keeper) -> None:
        """Store that it is running, so that it is known after a restart."""
        try:
            await keeper.put(self.owner, self.call, self.reply())
        finally:
            self._placed.set()

    def not_placed(self) -> None:
        """Have it stored at its end only."""
        self._placed.set()

    async def conclude(self, answer: DetachedAnswer) -> None:
        """Store how it ended. An OnEnd."""
        self.answer = answer
        assert self._keeper is not None
        try:
            reply = await off_loop(len(answer.recorded) > MANY_EVENTS, self._ended, answer)
            await self._placed.wait()
            whole = reply["status"] in ("completed", "incomplete")
            store = self._keeper.keep if whole else self._keeper.put
            self._final = await store(self.owner, self.call, reply)
        finally:
            self.call = _without_input(self.call, stored=self._final is not None)
            self._keeper = None
            self._concluded.set()

    def reply(self) -> JsonDict:
        """Build the response as it is now."""
        if self._final is not None:
            return self._final
        answer = self.answer
        if answer is not None and answer.ended and self._keeper is None:
            return self._ended(answer)
        collector = self._collector()
        recorded = () if answer is None else answer.recorded[:1]
        for event in recorded:
            collector.feed(event)
        reply = collector.response("in_progress" if recorded else "queued")
        return reply if recorded else {**reply, "model": self._model_asked}

    async def whole(self) -> JsonDict:
        """Build the same, off the event loop if it is long.

        If the answer has just ended, it waits until that is stored: a client that has read the end
        over another API is not told that the response is still in progress.
        """
        answer = self.answer
        if answer is not None and answer.ended:
            await self._kept()
        long = answer is not None and answer.ended and len(answer.recorded) > MANY_EVENTS
        return await off_loop(long and self._final is None, self.reply)

    async def response(self) -> Response:
        """Reply with it."""
        reply = await self.whole()
        return json_response(reply, headers=ignored_header(self.ignored) | payer_header(self.payer))

    def encoder(self, after: int) -> BackgroundStreamEncoder:
        """Return an encoder of its events after a number."""
        kind = BackgroundCompactionEncoder if self.call.compacts else BackgroundStreamEncoder
        encoder = self._made(kind)
        encoder.after = after
        encoder.final = self.reply
        return encoder

    def opening(self, encoder: BackgroundStreamEncoder) -> bytes:
        """Return the events before those of the answer."""
        return encoder.opening(self._model_asked)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield all events of the answer; the last one, or its error, once it is stored."""
        assert self.answer is not None
        try:
            async for _, event in self.answer.events():
                if isinstance(event, Finished):
                    await self._kept()
                yield event
        except BridgeError:
            await self._kept()
            raise

    async def _kept(self) -> None:
        if self._keeper is not None:
            await self._concluded.wait()

    @property
    def _model_asked(self) -> str:
        return self.call.request.model or ""

    def _collector(self) -> ResponseCollector:
        return self._made(CompactionCollector if self.call.compacts else ResponseCollector)

    def _made(self, kind: type[C]) -> C:
        call = self.call
        return kind(
            hex=call.hex,
            created=self._created,
            echo=call.echo,
            store=call.store,
            clock=self._clock,
            tools=call.tools,
        )

    def _ended(self, answer: DetachedAnswer) -> JsonDict:
        collector, error = self._collector(), answer.error
        try:
            for event in answer.recorded:
                collector.feed(event)
            if error is None:
                return collector.reply()
        except BridgeError as failure:
            error = failure
        collector.fail(error, self.request_id)
        return collector.failed(error, self.request_id)


class BackgroundResponses:
    """The responses in the background of all owners."""

    def __init__(self, server: ServerContext, keeper: Keeper) -> None:
        self._server = server
        self._keeper = keeper
        self._known: WeakValueDictionary[tuple[str, str], BackgroundResponse] = (
            WeakValueDictionary()
        )

    async def start(self, owner: str, call: ResponseCall, asked: CompletionRequest) -> Response:
        """Start one, and reply without waiting for its answer."""
        found = BackgroundResponse(owner, call, int(self._server.clock()), self._server.clock)
        found.kept_by(self._keeper)
        self._known[owner, found.id] = found
        try:
            answer = await self._server.service.detach(asked, found.conclude)
        except BaseException:
            found.not_placed()
            del self._known[owner, found.id]
            raise
        if answer.request_id == asked.request_id:
            found.answer = answer
            await found.place(self._keeper)
        else:
            # An equal request has had the same id of the caller's: this is its answer.
            del self._known[owner, found.id]
            found = self._of(owner, answer)
        return self.streamed(found, None) if call.stream else await found.response()

    async def find(self, owner: str, id: str) -> BackgroundResponse | None:
        """Return one that is running or ended a short time ago, started over any API.

        Raises AnswerElsewhereError if another server of the fleet has it.
        """
        known = self._known.get((owner, id))
        if known is not None and not known.concluded:
            return known
        try:
            answer = await self._server.service.attach(owner, f"req_{hex_of(id)}")
        except NotFoundError:
            return None
        except AnswerElsewhereError as error:
            raise elsewhere(id, error) from None
        return known or self._of(owner, answer)

    def streamed(self, found: BackgroundResponse, after: int | None) -> Response:
        """Reply with its events, those after a number or all."""
        encoder = found.encoder(-1 if after is None else after)

        async def last_frame() -> bytes:
            return encoder.last_frame(await found.whole())

        return EventStreamResponse(
            found.events(),
            encoder,
            settings=self._server.settings,
            ignored=found.ignored,
            payer=found.payer,
            conclude=last_frame,
            opening=found.opening(encoder),
        )

    async def cancelled(self, owner: str, id: str) -> JsonDict | None:
        """Cancel one and return how it ended; None if there is none.

        Raises AnswerElsewhereError if it runs on another server of the fleet.
        """
        try:
            found = await self.find(owner, id)
        except AnswerElsewhereError:
            reply = (await self._keeper.find(owner, response_id(hex_of(id)))).reply
            if reply["status"] in PENDING:
                raise
            return reply
        if found is None:
            return None
        await self._server.service.cancel(owner, found.request_id)
        return await found.whole()

    async def forget(self, owner: str, id: str) -> bool:
        """Cancel one, started over any API, and find it no more; False if there is none."""
        try:
            return await self._server.service.forget(owner, f"req_{hex_of(id)}")
        except AnswerElsewhereError as error:
            raise elsewhere(id, error) from None

    async def as_stored(self, owner: str, reply: JsonDict) -> JsonDict:
        """Return a response as it was stored.

        The server has stopped in the middle of a pending one, unless another one answers it.
        """
        if reply["status"] not in PENDING:
            return reply
        try:
            await self.find(owner, reply["id"])
        except AnswerElsewhereError:
            return reply
        message = "The server stopped before the response was complete."
        error = {"code": "server_error", "message": message}
        return {**reply, "status": "failed", "error": error}

    def _of(self, owner: str, answer: DetachedAnswer) -> BackgroundResponse:
        """Return the response of an answer, which another API may have started."""
        hex = hex_of(answer.request_id)
        found = self._known.get((owner, response_id(hex)))
        if found is None:
            echo = {**echo_of(ResponsesRequest(input=""), {}), "background": True}
            call = ResponseCall(
                CompletionRequest(()),
                hex=hex,
                echo=echo,
                items=(),
                tools={},
                stream=False,
                storage=Storage.NONE,
                previous=None,
                conversation=None,
            )
            found = BackgroundResponse(owner, call, int(answer.started_on), self._server.clock)
            found.answer = answer
        return found


def _without_input(call: ResponseCall, *, stored: bool) -> ResponseCall:
    """Return what is needed of a call once its response has ended: the input may be large."""
    asked = CompletionRequest((), model=call.request.model, ignored=call.request.ignored)
    storage = call.storage if stored else Storage.NONE
    return replace(call, request=asked, items=(), messages=(), storage=storage)
