"""One request and the payers that may answer it: the first that can does.

Another payer is asked only before the first event of an answer, so the caller does not notice.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

from bridge.core.contract import (
    BridgeError,
    CompletionRequest,
    Event,
    Finished,
    ModelNotFoundError,
    Started,
    Usage,
)
from bridge.core.engine import Engine
from bridge.core.intake import Answering, RequestBill
from bridge.core.payers.marks import Conversations, Marks, is_of_the_account, mark_of, overflows

logger = logging.getLogger(__name__)

_CACHE_SECONDS: Final = {"1h": 3600.0, "5m": 300.0}


class Routes(Protocol):
    """What a routed request needs of the payers."""

    marks: Marks
    conversations: Conversations

    def engine(self, name: str) -> Engine:
        """Return the engine of a payer."""
        ...

    def offered(self, names: Sequence[str], model: str | None) -> str:
        """Return the full name of a model, as far as it is known."""
        ...

    def candidates(self, names: Sequence[str], request: CompletionRequest) -> list[str]:
        """Return those of some payers that may be able to answer."""
        ...

    def has_answered(self, name: str) -> None:
        """Count a complete answer."""
        ...

    def check(self, name: str, caller: str) -> None:
        """Raise a BridgeError unless a payer may still answer a caller."""
        ...


class Routed:
    """Answers one request with the first of its payers that can."""

    def __init__(
        self,
        routes: Routes,
        names: Sequence[str],
        request: CompletionRequest,
        bill: RequestBill,
        admitted: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        """`names` are the payers that may answer, in order; no other is asked."""
        self._routes = routes
        self._names = names
        self._request = request
        self._bill = bill
        self._admitted = admitted
        self._now = now
        self._model = routes.offered(names, request.model)
        self._asked: Answering | None = None

    @property
    def usage(self) -> Usage:
        """Tokens of the payer that was asked last; those asked before have refused."""
        return Usage() if self._asked is None else self._asked.usage

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events of the answer; raises a BridgeError."""
        since = asyncio.get_running_loop().time()
        refusals: list[BridgeError] = []
        for name in await self._order():
            self._bill.record.payer = name
            completion = self._asked = self._answering(name, since)
            begun = False
            try:
                async with aclosing(completion.events()) as events:
                    async for event in events:
                        begun = True
                        if isinstance(event, Started):
                            event = replace(event, payer=name)
                        elif isinstance(event, Finished):
                            await self._answered(name)
                        yield event
                return
            except ModelNotFoundError:
                if not refusals:
                    raise
            except BridgeError as error:
                if not overflows(error):
                    raise
                await self._note(name, error)
                if begun:
                    raise
                refusals.append(error)
        raise min(refusals, key=_soonest)

    async def _order(self) -> list[str]:
        """Return the payers to ask, in order."""
        routes = self._routes
        if len(self._names) > 1:
            # Otherwise there is no choice.
            await routes.marks.refresh()
        now = self._now()
        known = routes.candidates(self._names, self._request)
        usable = routes.marks.usable(known, self._model, now)
        if len(self._names) == 1:
            return list(usable)
        return routes.conversations.first(self._request, usable, now)

    def _answering(self, name: str, since: float) -> Answering:
        """Begin to answer with a payer."""
        check = partial(self._routes.check, name, self._request.caller)
        return self._routes.engine(name).answering(
            self._request, self._bill, self._admitted, since=since, check=check
        )

    async def _answered(self, name: str) -> None:
        routes = self._routes
        routes.marks.works(name, self._model)
        await routes.marks.tell()
        routes.has_answered(name)
        if name != self._names[0]:
            ttl = routes.engine(name).launcher.cache_ttl or "5m"
            routes.conversations.answered(self._request, name, self._now() + _CACHE_SECONDS[ttl])

    async def _note(self, name: str, error: BridgeError) -> None:
        mark = mark_of(error, self._model, self._now())
        if mark is None:
            return
        self._routes.marks.note(name, mark, of_the_account=is_of_the_account(error))
        await self._routes.marks.tell()
        seconds = max(mark.until - self._now(), 0.0)
        model = mark.model or "every model"
        logger.warning(
            "payer %s: %s for %s; it is asked again in %.0f s", name, error.reason, model, seconds
        )


def _soonest(error: BridgeError) -> float:
    hint = error.retry_hint
    return math.inf if hint is None else hint
