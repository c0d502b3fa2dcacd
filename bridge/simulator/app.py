"""The ASGI application: reads a request, decides with the pure modules, delivers the answer."""

import asyncio
import json
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from bridge.simulator import answers, rules, script, stream
from bridge.simulator.cache import PromptCache, prefixes
from bridge.simulator.ledger import Ledger
from bridge.simulator.rules import ApiError
from bridge.simulator.script import BadDirective, Directive

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# https://platform.claude.com/docs/en/api/errors: 32 MB for the Messages API.
MAX_REQUEST_BYTES = 32 * 1024 * 1024
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# Unpaced deltas go out in batches of this many: the point of no pace is to be cheap.
_BATCH = 64
# What the CLI asks at its start to see whether the API can be reached.
_GREETINGS = ("", "/api/hello")
# Distinct scripted failures whose count is kept.
_KEEP_FAILURES = 10_000


class _Gone(Exception):
    """The client went away while the request was read."""


class _Refused(Exception):
    def __init__(self, error: ApiError, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class _Plan:
    """One answer, decided and ready to be delivered."""

    number: int
    request_id: str
    reply: stream.Reply
    envelope: stream.Envelope
    delivery: Directive
    streamed: bool


class Application:
    """The Messages API. `abort` resets the connection that a scope came by.

    While `closing` is true, clients that lose their connection are taken to have been cut; while
    `login_accepted` is false, every request is refused as one whose login has expired.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        cache: PromptCache,
        pace_ms: float,
        abort: Callable[[Message], None],
    ) -> None:
        self.closing = False
        self.login_accepted = True
        self._ledger = ledger
        self._cache = cache
        self._unscripted = Directive(delay_ms=pace_ms)
        self._abort = abort
        self._failures: Counter[tuple[str, int]] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request_id = f"req_{secrets.token_hex(12)}"
        method, path = scope["method"], scope["path"].rstrip("/")
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            if method == "POST" and path == "/v1/messages":
                await self._messages(scope, headers, request_id, receive, send)
            elif method == "POST" and path == "/v1/messages/count_tokens":
                body = _parsed(await _read(receive))
                self._authenticate(headers)
                _check({"max_tokens": 1 << 20, **body})
                blocks = prefixes(body)
                count = {"input_tokens": blocks[-1].tokens if blocks else 0}
                await _respond(send, 200, count, request_id)
            elif method in ("GET", "HEAD") and path in _GREETINGS:
                await _respond(send, 200, {"simulator": "Anthropic Messages API"}, request_id)
            else:
                raise _Refused(ApiError(404, "not_found_error", "Not found"))
        except _Refused as refused:
            error = refused.error
            body = stream.error_json(error.type, error.message, request_id)
            await _respond(send, error.status, body, request_id, refused.headers)
        except _Gone:
            pass

    async def _messages(
        self,
        scope: Message,
        headers: Mapping[str, str],
        request_id: str,
        receive: Receive,
        send: Send,
    ) -> None:
        raw = await _read(receive)
        try:
            body: Mapping[str, Any] = _parsed(raw)
        except _Refused:
            number = self._ledger.begin(headers, {})
            self._ledger.answer(number, 400)
            self._ledger.end(number, "refused")
            raise
        number = self._ledger.begin(headers, body)
        try:
            self._authenticate(headers)
            plan = self._plan(number, request_id, body)
        except _Refused as refused:
            self._ledger.answer(number, refused.error.status)
            self._ledger.end(number, "refused")
            raise
        await self._deliver(plan, scope, receive, send)

    def _authenticate(self, headers: Mapping[str, str]) -> None:
        key = headers.get("x-api-key")
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not key and not bearer:
            message = "x-api-key header is required"
            raise _Refused(ApiError(401, "authentication_error", message))
        if not self.login_accepted:
            message = "OAuth token has expired"
            raise _Refused(ApiError(401, "authentication_error", message))

    def _plan(self, number: int, request_id: str, body: Mapping[str, Any]) -> _Plan:
        _check(body)
        try:
            found = script.find(body)
            directive = found.in_force if found else None
            if found and directive and directive.error:
                self._fail(directive.error, found.key)
            reply = answers.reply(body, directive, _new_id)
        except BadDirective as error:
            message = f"bad directive: {error}"
            raise _Refused(ApiError(400, "invalid_request_error", message)) from None
        envelope = stream.Envelope(
            id=_new_id("msg_"),
            model=str(body["model"]),
            usage=self._cache.account(body).usage(),
            usage_override=directive.usage if directive else {},
            context_management="context_management" in body,
            omit_thinking=(body.get("thinking") or {}).get("display") == "omitted",
        )
        delivery = directive or self._unscripted
        return _Plan(number, request_id, reply, envelope, delivery, body.get("stream") is True)

    def _fail(self, failure: script.Failure, key: tuple[str, int]) -> None:
        """Refuse as scripted, unless this directive has failed as often as it should."""
        if failure.times is not None:
            if self._failures[key] >= failure.times:
                return
            self._failures[key] += 1
            while len(self._failures) > _KEEP_FAILURES:
                del self._failures[next(iter(self._failures))]
        error = ApiError(failure.status, failure.type, failure.message)
        raise _Refused(error, failure.headers)

    async def _deliver(self, plan: _Plan, scope: Message, receive: Receive, send: Send) -> None:
        """Write the answer, and notice at once when the client goes away."""
        answer = self._stream if plan.streamed else self._whole
        answering = asyncio.create_task(answer(plan, scope, send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            # Both can be done: a finished answer also ends the wait for the client to leave.
            if answering.done():
                answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
            # An answer that came to its end has said so itself, and the first word counts.
            self._ledger.end(plan.number, "cut" if self.closing else "client_closed")

    async def _stream(self, plan: _Plan, scope: Message, send: Send) -> None:
        how = plan.delivery
        await self._before(how)
        self._ledger.answer(plan.number, 200, plan.envelope.usage)
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        await _start(send, 200, {**headers, **how.headers}, plan.request_id)
        frames = stream.frames(plan.reply, plan.envelope)
        await _write(send, next(frames)[1])
        loop = asyncio.get_running_loop()
        delay, started = how.delay_ms / 1000, loop.time()
        batch: list[bytes] = []
        sent = 0
        for is_delta, data in frames:
            if sent == how.stops_after:
                await _write(send, b"".join(batch))
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
                await _write(send, b"".join(batch))
                batch.clear()
                await asyncio.sleep(0)  # neither write yields: others must have their turn
        self._completed(plan)
        await _write(send, b"".join(batch), more=False)

    async def _whole(self, plan: _Plan, scope: Message, send: Send) -> None:
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
        await _respond(send, 200, message, plan.request_id, how.headers)

    async def _stop(self, plan: _Plan, scope: Message, send: Send) -> None:
        """End an answer early, in the way that was asked for."""
        how = plan.delivery
        if how.stops_after == how.error_after:
            error = stream.error_json("overloaded_error", "Overloaded", plan.request_id)
            if plan.streamed:
                self._ledger.end(plan.number, "cut")
                return await _write(send, stream.event("error", error), more=False)
            self._ledger.answer(plan.number, 529)
            self._ledger.end(plan.number, "refused")
            return await _respond(send, 529, error, plan.request_id, how.headers)
        if how.stops_after == how.cut_after:
            self._ledger.end(plan.number, "cut")
            self._abort(scope)
        elif how.stops_after == how.garbage_after:
            self._ledger.end(plan.number, "cut")
            if not plan.streamed:
                await _start(send, 200, {"content-type": "application/json"}, plan.request_id)
            return await _write(send, stream.GARBAGE, more=False)
        await _for_ever()

    def _completed(self, plan: _Plan) -> None:
        # Before the last write: who has read the whole answer finds it in the ledger as ended.
        usage = stream.final_usage(plan.reply, plan.envelope)
        self._ledger.end(plan.number, "completed", usage)

    async def _before(self, how: Directive) -> None:
        if how.hang:
            await _for_ever()
        await asyncio.sleep(how.first_delay_ms / 1000)


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
        if _SURROGATE.search(raw):
            # Half a surrogate pair, which the API refuses and which could not be written back.
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        message = f"The request body is not valid JSON: {error}"
        raise _Refused(ApiError(400, "invalid_request_error", message)) from None
    if not isinstance(body, dict):
        raise _Refused(ApiError(400, "invalid_request_error", "Input should be an object"))
    return body


def _check(body: Mapping[str, Any]) -> None:
    error = rules.check(body)
    if error is not None:
        raise _Refused(error)


async def _read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        size += len(message.get("body", b""))
        # Read on, or the client would not come to read the refusal; but keep nothing more.
        if size <= MAX_REQUEST_BYTES:
            chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    if size > MAX_REQUEST_BYTES:
        message_text = "Request exceeds the maximum size"
        raise _Refused(ApiError(413, "request_too_large", message_text))
    return b"".join(chunks)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _start(send: Send, status: int, headers: Mapping[str, str], request_id: str) -> None:
    pairs = {"request-id": request_id, **{k.lower(): v for k, v in headers.items()}}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _write(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def _respond(
    send: Send,
    status: int,
    body: Mapping[str, Any],
    request_id: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    data = json.dumps(body).encode()
    length = {"content-type": "application/json", "content-length": str(len(data))}
    await _start(send, status, {**length, **(headers or {})}, request_id)
    await _write(send, data, more=False)
