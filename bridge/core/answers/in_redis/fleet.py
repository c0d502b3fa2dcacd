"""The requests of a fleet in Redis: who has claimed which id, and which server has which answer.

What a server publishes expires unless it is renewed, so that a server that was killed holds nothing
for long. While Redis is away, it is kept here, and published once Redis is back.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridge.core.answers.claims import Claim, in_use, refusal
from bridge.core.answers.fleet import Elsewhere
from bridge.core.contract import (
    AnswerElsewhereError,
    CompletionRequest,
    Place,
    StoreUnavailableError,
)
from bridge.core.redis import RedisLink, RedisUnavailableError, Script
from bridge.core.system import replica_of_host
from bridge.core.telemetry import trace_of

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 30.0
"""After so many seconds without a sign of life, a server's running requests count as gone."""
_RENEW_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = 1.0
_PLACE: Final = Place("client_request_id")

_CLAIM: Final = Script("""
local held = redis.call('HMGET', KEYS[1], 'holder', 'replica', 'request', 'digest', 'detached',
  'state')
if held[1] and held[1] ~= ARGV[3] then return held end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return false
""")
"""Arguments: milliseconds, then fields and values, of which the first are holder and request.
Returns who has it, if another server does."""

_PUBLISH: Final = Script("""
local held = redis.call('HMGET', KEYS[1], 'holder', 'request')
if held[1] and not (held[1] == ARGV[3] and held[2] == ARGV[5]) then return end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
""")
"""The same arguments; after no milliseconds, the key is gone. What another server, or another
request, has by now is left to it."""

_FIND: Final = Script("""
local answer = redis.call('HMGET', KEYS[1], 'holder', 'replica', 'state')
if answer[1] then return answer end
local claim = redis.call('HMGET', KEYS[2], 'holder', 'replica', 'state', 'request', 'detached')
return claim[1] and claim
""")


@dataclass(slots=True)
class _Published:
    """A key of this server."""

    fields: tuple[str, ...]
    """Names and values in turn; the holder and the request come first."""
    seconds: float
    """For how long it stands; 0 means not at all."""
    last: bool = False
    """Whether it is not to be renewed."""
    due: float = 0.0
    """When it is to be published, in seconds of the clock."""
    until: float = math.inf
    """From when on it means nothing any more, published or not, on the same clock."""

    def arguments(self, now: float) -> tuple[str | int, ...]:
        """Return the arguments of a script."""
        return (round(min(self.seconds, self.until - now) * 1000), *self.fields)


class RedisFleet:
    """A Fleet of the servers that share a Redis."""

    def __init__(
        self,
        link: RedisLink,
        replica: str,
        *,
        claim_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take part as `replica`; an id stays claimed for `claim_seconds` after its answer."""
        self._link = link
        self._replica = replica
        self._holder = secrets.token_hex(8)
        """This process: two servers may have one name, and one that starts again has its own."""
        self._claim_seconds = claim_seconds
        self._clock = clock
        self._published: dict[str, _Published] = {}
        self._answers: dict[str, tuple[float, tuple[str, ...]]] = {}
        """The answers that are published: until when, and their fields."""
        self._changed = asyncio.Event()
        self._publishing: asyncio.Task[None] | None = None
        link.follow(self._link_changed)

    def start(self) -> None:
        """Publish what changes, and renew it, from now on."""
        self._publishing = asyncio.create_task(self._publish_all())

    async def aclose(self) -> None:
        """Publish what is left to publish; nothing is kept here any more."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait((self._publishing,))
        for key, (_, fields) in self._answers.items():
            self._published[key] = _Published(fields, 0.0, last=True)
        await self._publish_due()

    # Fleet

    async def claim(self, request: CompletionRequest, claim: Claim) -> None:
        """Claim the caller's id of a request for this server."""
        key, published = self._claim_key(claim.owner, claim.id), self._of(claim)
        try:
            held = await self._link.run(_CLAIM, [key], published.arguments(self._clock()))
        except RedisUnavailableError:
            # It counts for this server, and for the others once Redis is back.
            self._publish(key, published)
            return
        except asyncio.CancelledError:
            # It may have been claimed. `changed` follows, and frees it.
            self._published[key] = published
            raise
        if held is None:
            published.due = self._clock() + _RENEW_SECONDS
            self._published[key] = published
            return
        _, _, request_id, digest, detached, state = (each or "" for each in held)
        other = Claim(claim.owner, claim.id, _bytes_of(digest), request_id, detached == "1")
        other.answered = state != "waiting"
        other.ended_at = 0.0 if state == "ended" else None
        refused = refusal(request, other, claim.digest)
        if refused is not None:
            raise refused
        found = await self._find_answer(claim.owner, request_id)
        if found is None:
            raise in_use(request, other)
        raise AnswerElsewhereError(claim.id, found.replica, field=request.field_names(_PLACE))

    def changed(self, claim: Claim) -> None:
        """Publish that an answer has begun or ended; without an answer, its id is free."""
        key = self._claim_key(claim.owner, claim.id)
        if key in self._published:
            self._publish(key, self._of(claim))

    def started(self, owner: str, request_id: str) -> None:
        """Publish that this server has a detached answer."""
        self._publish_answer(owner, request_id, "running", LEASE_SECONDS, last=False)

    def ended(self, owner: str, request_id: str, seconds: float) -> None:
        """Publish that it has ended, and is kept for some more seconds."""
        self._publish_answer(owner, request_id, "ended", seconds, last=True)

    async def find(self, owner: str, id: str) -> Elsewhere | None:
        """Find a request of another server, by the server's id or the caller's own."""
        keys = [self._answer_key(owner, id), self._claim_key(owner, id)]
        try:
            found = await self._link.run(_FIND, keys)
            claimed = found is not None and len(found) > 3
            if claimed and found[4] == "1":
                # A detached one, of which the caller's id does not tell whether it is kept.
                return await self._find_answer(owner, found[3])
        except RedisUnavailableError as error:
            raise StoreUnavailableError(retryable=True) from error
        if found is None or found[0] == self._holder:
            return None
        ended = found[2] == "ended"
        return None if ended and claimed else _elsewhere(found[1], not ended)

    async def _find_answer(self, owner: str, request_id: str) -> Elsewhere | None:
        key = self._answer_key(owner, request_id)
        holder, replica, state = await self._link.execute(
            "HMGET", key, "holder", "replica", "state"
        )
        if holder is None or holder == self._holder:
            return None
        return _elsewhere(replica, state != "ended")

    # What is published

    def _of(self, claim: Claim) -> _Published:
        ended = claim.ended_at is not None
        state = "ended" if ended else "answered" if claim.answered else "waiting"
        seconds = self._claim_seconds if ended else LEASE_SECONDS
        last = ended or claim.released
        until = self._clock() + seconds if last else math.inf
        if claim.released:
            seconds = 0.0
        fields = (
            *("holder", self._holder, "request", claim.request_id, "replica", self._replica),
            *("digest", claim.digest.hex(), "detached", str(int(claim.detached)), "state", state),
        )
        return _Published(fields, seconds, last=last, until=until)

    def _publish_answer(
        self, owner: str, request_id: str, state: str, seconds: float, *, last: bool
    ) -> None:
        key = self._answer_key(owner, request_id)
        fields = (
            *("holder", self._holder, "request", request_id, "replica", self._replica),
            *("state", state),
        )
        now = self._clock()
        self._answers[key] = (now + seconds if last else math.inf), fields
        until = now + (seconds or LEASE_SECONDS) if last else math.inf
        self._publish(key, _Published(fields, seconds, last=last, until=until))

    def _publish(self, key: str, published: _Published) -> None:
        self._published[key] = published
        self._changed.set()

    def _link_changed(self, up: bool) -> None:
        if up:
            # It may have been started again, and be empty.
            for published in self._published.values():
                published.due = 0.0
            self._changed.set()

    async def _publish_all(self) -> None:
        while True:
            self._changed.clear()
            done = await self._publish_due()
            now = self._clock()
            self._answers = {key: each for key, each in self._answers.items() if each[0] > now}
            if not done:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            due = min((each.due for each in self._published.values()), default=None)
            try:
                async with asyncio.timeout(None if due is None else max(due - now, 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _publish_due(self) -> bool:
        """Publish what is due; returns whether Redis took it all."""
        now, done = self._clock(), True
        # While Redis is away, they would become ever more.
        self._published = {k: each for k, each in self._published.items() if each.until > now}
        for key, published in list(self._published.items()):
            if published.due > now:
                continue
            try:
                await self._link.run(_PUBLISH, [key], published.arguments(now))
            except RedisUnavailableError:
                if not self._link.up:
                    return False
                # It refuses this one.
                done = False
                continue
            except Exception as failure:  # noqa: BLE001 - the others are to be published
                logger.error("a request is not published to the fleet: %s", trace_of(failure))
            published.due = self._clock() + _RENEW_SECONDS
            if published.last and self._published.get(key) is published:
                del self._published[key]
        return done

    def _claim_key(self, owner: str, id: str) -> str:
        return self._link.key("claims", _hashed(owner, id))

    def _answer_key(self, owner: str, request_id: str) -> str:
        return self._link.key("answers", _hashed(owner, request_id))


def _elsewhere(replica: str | None, running: bool) -> Elsewhere:
    # It is sent in a header, and something else may have written it.
    return Elsewhere(replica_of_host(replica or ""), running)


def _bytes_of(digest: str) -> bytes:
    try:
        return bytes.fromhex(digest)
    except ValueError:
        # Something else has written it: it is that of no request.
        return b""


def _hashed(owner: str, id: str) -> str:
    # Short, and nothing that a caller has written.
    return hashlib.sha256(f"{owner}\0{id}".encode(errors="surrogatepass")).hexdigest()[:40]
