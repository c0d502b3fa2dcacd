"""The marks of payers in Redis: what one server learns of an account, all that use it know."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from bridge.core.contract import LimitedModel
from bridge.core.payers.marks import Marks
from bridge.core.redis import RedisLink, RedisUnavailableError, Script

READ_SECONDS: Final = 1.0
"""How old what is known of the other servers may be."""
_KEPT_SECONDS: Final = 40 * 86_400
"""How long Redis keeps the marks of an account, and how far ahead a mark that counts may end: more
than any that a server makes, whose clock may differ."""

# A key an account: its marks by model. The arguments: how long they are kept, and what is new, also
# marks that have ended before their time. The reply: all marks of each account.
_EXCHANGE: Final = Script("""
for _, new in ipairs(cjson.decode(ARGV[2])) do
  local key = KEYS[new.account]
  local _, known = pcall(cjson.decode, redis.call('HGET', key, new.model))
  local longest = type(known) == 'table' and tonumber(known['until'])
  if new.ended then
    if not longest or longest <= new['until'] then redis.call('HDEL', key, new.model) end
  elseif not longest or longest < new['until'] then
    redis.call('HSET', key, new.model, new.mark)
    redis.call('EXPIRE', key, ARGV[1])
  end
end
local all = {}
for number, key in ipairs(KEYS) do all[number] = redis.call('HGETALL', key) end
return all
""")


@dataclass(frozen=True, slots=True, eq=False)
class _News:
    """What Redis has not been told."""

    mark: LimitedModel
    ended: bool = False
    """Whether it has ended before its time."""


class SharedMarks(Marks):
    """The marks of this server's payers, those of their accounts together with other servers.

    While Redis is away, what was known before holds until it ends, and what is noted meanwhile
    is told once it is back.
    """

    def __init__(
        self,
        link: RedisLink,
        accounts: Mapping[str, Callable[[], str]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`accounts` returns what identifies a payer's account on every server.

        Empty, or none, means that it is not known: then its marks are of this server only.
        """
        super().__init__()
        self._link = link
        self._accounts = accounts
        self._clock = clock
        self._shared: dict[tuple[str, str], LimitedModel] = {}
        """By account and model, as Redis knows them and as told next."""
        self._untold: dict[tuple[str, str], _News] = {}
        self._read_at = -READ_SECONDS
        self._lock = asyncio.Lock()

    def note(self, payer: str, mark: LimitedModel, *, of_the_account: bool = False) -> None:
        """Leave a payer out; other servers, too, if the mark is of its account."""
        account = self._account(payer) if of_the_account else ""
        if not account:
            super().note(payer, mark)
            return
        place = account, mark.model
        known = self._shared.get(place, mark)
        if known is mark or known.until < mark.until:
            self._shared[place] = mark
            self._untold[place] = _News(mark)

    def works(self, payer: str, model: str) -> None:
        """Record that a payer has answered."""
        super().works(payer, model)
        account = self._account(payer)
        for place in ((account, model), (account, "")):
            if (known := self._shared.pop(place, None)) is not None:
                # Another server may have noted a new one meanwhile: that one stays.
                self._untold[place] = _News(known, ended=True)

    def of(self, payer: str, now: float) -> tuple[LimitedModel, ...]:
        """Return the marks of a payer that have not ended, as far as they are known here."""
        account = self._account(payer)
        shared = (mark for (other, _), mark in self._shared.items() if account == other)
        latest = now + _KEPT_SECONDS
        return (*super().of(payer, now), *(mark for mark in shared if now < mark.until < latest))

    async def refresh(self) -> None:
        """Learn the marks of other servers, if that was not done a moment ago."""
        if self._read_at + READ_SECONDS <= self._clock():
            await self._exchange()

    async def tell(self) -> None:
        """Tell other servers what has been noted here, if anything."""
        if self._untold:
            await self._exchange()

    async def _exchange(self) -> None:
        asked_at = self._clock()
        async with self._lock:
            if self._read_at >= asked_at and not self._untold:
                # Done for another request meanwhile.
                return
            accounts = sorted({self._account(name) for name in self._accounts} - {""})
            # With a new login, what was known of the one before is nothing to this server.
            self._untold = {at: news for at, news in self._untold.items() if at[0] in accounts}
            told = dict(self._untold)
            with suppress(RedisUnavailableError):
                found = await self._link.run(
                    _EXCHANGE,
                    [self._link.key("marks", account) for account in accounts],
                    [_KEPT_SECONDS, _new(told, accounts)],
                )
                for place, news in told.items():
                    if self._untold.get(place) is news:
                        del self._untold[place]
                self._shared = _marks(accounts, found) | {
                    place: news.mark for place, news in self._untold.items() if not news.ended
                }
            self._read_at = self._clock()

    def _account(self, payer: str) -> str:
        find = self._accounts.get(payer)
        return "" if find is None else find()


def _new(told: Mapping[tuple[str, str], _News], accounts: list[str]) -> str:
    return json.dumps(
        [
            {
                "account": accounts.index(account) + 1,
                "model": model,
                "until": news.mark.until,
                "ended": news.ended,
                "mark": json.dumps({"reason": news.mark.reason, "until": news.mark.until}),
            }
            for (account, model), news in told.items()
        ]
    )


def _marks(accounts: list[str], found: list[list[str]]) -> dict[tuple[str, str], LimitedModel]:
    marks: dict[tuple[str, str], LimitedModel] = {}
    for account, words in zip(accounts, found, strict=True):
        for model, text in zip(words[::2], words[1::2], strict=True):
            try:
                mark = json.loads(text)
                reason, until = str(mark["reason"]), float(mark["until"])
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                # Something else has written it. The next mark of this model replaces it.
                continue
            marks[account, model] = LimitedModel(model, reason, until)
    return marks
