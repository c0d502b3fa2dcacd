"""Which payer does not serve which model at present, and which payer a conversation is with. Pure.

Times are Unix seconds.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bridge.core.contract import (
    BridgeError,
    CompletionRequest,
    LimitedModel,
    Message,
    NotLoggedInError,
    PlanLimitError,
    RateLimitedError,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

UNKNOWN_RESET_SECONDS: Final = 900.0
"""How long a payer is left out if the API did not report when its limit resets."""
LOGIN_SECONDS: Final = 30.0
"""How long a payer is left out whose login was refused. A new login is used after it at the
latest."""
BUSY_SECONDS: Final = 10.0
LONGEST_SECONDS: Final = 35 * 86_400.0
"""How long a payer is left out at most, whatever the API has reported: no limit is longer than a
month."""

_OF_THE_REQUEST: Final = "USAGE_CREDITS_REQUIRED"
"""The reason of a limit that only a request of this kind reaches."""
_OF_THE_ACCOUNT: Final = "INSUFFICIENT_QUOTA"


def overflows(error: BridgeError) -> bool:
    """Whether another payer may answer instead of the one that has failed with this error."""
    return isinstance(error, PlanLimitError | NotLoggedInError | RateLimitedError)


def mark_of(error: BridgeError, model: str, now: float) -> LimitedModel | None:
    """Return what an error says about the next requests for the same model, if anything."""
    match error:
        case NotLoggedInError():
            return LimitedModel("", error.reason, now + LOGIN_SECONDS)
        case RateLimitedError():
            left = error.retry_after or BUSY_SECONDS
            return LimitedModel(model, error.reason, now + min(left, LONGEST_SECONDS))
        case PlanLimitError(reason=reason) if reason != _OF_THE_REQUEST:
            seconds = error.retry_after
            until = now + (
                UNKNOWN_RESET_SECONDS if seconds is None else min(seconds, LONGEST_SECONDS)
            )
            return LimitedModel("" if reason == _OF_THE_ACCOUNT else model, reason, until)
    return None


def is_of_the_account(error: BridgeError) -> bool:
    """Whether an error is that of every server with the same account.

    A refused login is not: each server has its own, on its own disk.
    """
    return not isinstance(error, NotLoggedInError)


class Marks:
    """The payers that cannot serve a model now, each until its limit resets."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], LimitedModel] = {}

    async def refresh(self) -> None:
        """Learn the marks that other servers have noted, and tell them those noted here."""

    async def tell(self) -> None:
        """Tell other servers what has been noted here, if anything."""

    def note(self, payer: str, mark: LimitedModel, *, of_the_account: bool = False) -> None:
        """Leave a payer out until the mark ends, or an earlier one if that ends later.

        `of_the_account`: see `is_of_the_account`.
        """
        known = self._marks.get((payer, mark.model), mark)
        self._marks[payer, mark.model] = max(known, mark, key=lambda each: each.until)

    def works(self, payer: str, model: str) -> None:
        """Record that a payer has answered."""
        self._marks.pop((payer, model), None)
        self._marks.pop((payer, ""), None)

    def of(self, payer: str, now: float) -> tuple[LimitedModel, ...]:
        """Return the marks of a payer that have not ended."""
        self._marks = {key: mark for key, mark in self._marks.items() if mark.until > now}
        return tuple(mark for (name, _), mark in self._marks.items() if name == payer)

    def usable(self, payers: Sequence[str], model: str, now: float) -> tuple[str, ...]:
        """Return the payers to ask, in order.

        If all are marked, that is the one whose mark ends first: what is known may be outdated, and
        its error says when to try again.
        """

        def until(payer: str) -> float:
            marks = (mark for mark in self.of(payer, now) if mark.model in ("", model))
            return max((mark.until for mark in marks), default=0.0)

        free = tuple(payer for payer in payers if not until(payer))
        return free or (min(payers, key=until),)


@dataclass(frozen=True, slots=True)
class _Held:
    payer: str
    until: float


class Conversations:
    """Which payer has answered in a conversation, while its prompt cache may last.

    Only those of another payer than the first one of the list are remembered.
    """

    def __init__(self, most: int = 4096) -> None:
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._most = most

    def first(self, request: CompletionRequest, payers: Sequence[str], now: float) -> list[str]:
        """Order payers: the one that this conversation is with comes first."""
        # A long conversation is not hashed for nothing.
        key = _continued(request) if self._held else None
        held = self._held.get(key) if key is not None else None
        if held is None or held.until <= now or held.payer not in payers:
            return list(payers)
        return [held.payer, *(payer for payer in payers if payer != held.payer)]

    def answered(self, request: CompletionRequest, payer: str, until: float) -> None:
        """Record the payer of an answer that was not the first choice."""
        self._held[_key(request, request.messages)] = _Held(payer, until)
        while len(self._held) > self._most:
            self._held.popitem(last=False)


def _continued(request: CompletionRequest) -> bytes | None:
    """The key of the request that this one continues; None if it is the first of its kind."""
    for number in range(len(request.messages) - 1, -1, -1):
        if request.messages[number].role is Role.ASSISTANT:
            return _key(request, request.messages[:number])
    return None


def _key(request: CompletionRequest, messages: Sequence[Message]) -> bytes:
    """Texts and ids of calls identify a conversation well enough."""
    digest = hashlib.sha256(repr((request.owner, request.caller)).encode())
    for message in messages:
        digest.update(message.role.encode())
        for part in message.with_inner_parts():
            match part:
                case TextPart(text=text):
                    digest.update(repr(text).encode())
                case ToolCallPart(id=id) | ToolResultPart(call_id=id):
                    digest.update(repr(id).encode())
    return digest.digest()
