"""The callers' own ids of their requests: each is answered once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bridge.core.contract import CompletionRequest, Place, RequestIdInUseError, shown

_PLACE: Final = Place("client_request_id")
_IRRELEVANT: Final = frozenset(
    {
        "api",
        "client_request_id",
        "first_token_timeout",
        "idle_timeout",
        "ignored",
        "queue_timeout",
        "repaired",
        "request_id",
        "timeout",
    }
)
"""Fields in which two equal requests may differ: a retry has less time left, for example."""


def digest_of(request: CompletionRequest, *, detached: bool) -> bytes:
    """Return what is the same for equal requests only."""
    asked = {
        field.name: _plain(getattr(request, field.name))
        for field in dataclasses.fields(request)
        if field.compare and field.name not in _IRRELEVANT
    }
    return hashlib.sha256(repr((detached, asked)).encode(errors="surrogatepass")).digest()


def _plain(value: object) -> object:
    """Return a value without the parts that do not count in a comparison."""
    if dataclasses.is_dataclass(value):
        fields = [each for each in dataclasses.fields(value) if each.compare]
        return (type(value).__name__, *(_plain(getattr(value, each.name)) for each in fields))
    if isinstance(value, Mapping):
        named: Mapping[Any, object] = value
        return {name: _plain(each) for name, each in sorted(named.items())}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


@dataclass(slots=True)
class Claim:
    """The use of an id for one request."""

    owner: str
    id: str
    digest: bytes
    request_id: str
    detached: bool
    answered: bool = False
    """Whether the answer has begun, so that it has to be paid for."""
    ended_at: float | None = None
    released: bool = False
    """Whether its request has ended without an answer, so that the id is free."""


class Claims:
    """The ids that are taken: those of running requests, and for some time those of answered ones.

    A request that ends before its answer has begun gives its id back, so that it can be retried.
    Times are seconds of one monotonic clock.
    """

    def __init__(self, seconds: float, most: int) -> None:
        """Keep an id for `seconds` after the end of its answer, and at most `most` per owner."""
        self._seconds = seconds
        self._most = most
        self._owners: dict[str, dict[str, Claim]] = {}
        """The claims of each owner; those of ended requests in the order in which these ended."""

    def claim(
        self, request: CompletionRequest, digest: bytes, now: float, *, detached: bool
    ) -> tuple[Claim, bool]:
        """Claim the request's id; returns the claim, and whether it is a new one.

        An old one is that of an equal detached request. Raises RequestIdInUseError for others.
        """
        id = request.client_request_id
        claims = self._owners.setdefault(request.owner, {})
        self._expire(claims, now)
        held = claims.get(id)
        if held is None:
            claims[id] = Claim(request.owner, id, digest, request.request_id, detached)
            return claims[id], True
        error = refusal(request, held, digest)
        if error is not None:
            raise error
        return held, False

    def end(self, claim: Claim, now: float) -> None:
        """Record the end of a request."""
        claims = self._owners[claim.owner]
        del claims[claim.id]
        if claim.answered:
            claim.ended_at = now
            claims[claim.id] = claim
            self._expire(claims, now)
        else:
            claim.released = True
        if not claims:
            del self._owners[claim.owner]

    def request_id(self, owner: str, id: str) -> str | None:
        """Return the server's id of the request for which an owner used an id."""
        held = self._owners.get(owner, {}).get(id)
        return None if held is None else held.request_id

    def _expire(self, claims: dict[str, Claim], now: float) -> None:
        due: list[str] = []
        for claim in claims.values():
            if claim.ended_at is None:
                continue
            too_many = len(claims) - len(due) > self._most
            if not too_many and claim.ended_at + self._seconds > now:
                break
            due.append(claim.id)
        for id in due:
            del claims[id]


def refusal(request: CompletionRequest, held: Claim, digest: bytes) -> RequestIdInUseError | None:
    """Return why a request may not have an id that is held; None if it is that detached request
    again."""
    if held.digest != digest:
        return RequestIdInUseError(
            f"The request id {shown(held.id)} was used for another request. Use a new id for each "
            "request; only a repeated one has the same id.",
            field=request.field_names(_PLACE),
            reason="REQUEST_ID_REUSED",
        )
    return None if held.detached else in_use(request, held)


def in_use(request: CompletionRequest, held: Claim) -> RequestIdInUseError:
    """Return the error for a repeated request whose answer cannot be had again."""
    if held.ended_at is not None:
        said = "was answered already. To have another answer, use a new id."
    elif held.answered:
        said = "is being answered. To have another answer, use a new id."
    else:
        said = "is waiting for its answer. Wait, or cancel it first."
    return RequestIdInUseError(
        f"The request with the id {shown(held.id)} {said}",
        field=request.field_names(_PLACE),
        retryable=held.ended_at is None and not held.answered,
    )
