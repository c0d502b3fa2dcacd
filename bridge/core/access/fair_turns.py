"""A lock on which waiting callers take turns: many requests of one caller delay another by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Waiting:
    caller: str
    granted: asyncio.Future[None]


class FairTurns:
    """A lock that goes to the caller whose last turn was longest ago, then by arrival."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[_Waiting] = []
        self._turns = 0
        self._last: dict[str, int] = {}
        """The number of each caller's last turn. Callers are key names, so there are few."""

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncGenerator[None, None]:
        """Wait for a turn and hold it until the block ends."""
        if self._taken:
            await self._wait(caller)
        self._taken = True
        self._turns += 1
        self._last[caller] = self._turns
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, caller: str) -> None:
        waiting = _Waiting(caller, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:
                # It had just received the turn.
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        # The lock stays taken until the chosen waiter runs, so that no newcomer gets in between.
        self._taken = bool(self._waiting)
        if self._waiting:
            chosen = min(self._waiting, key=lambda waiting: self._last.get(waiting.caller, 0))
            self._waiting.remove(chosen)
            if not chosen.granted.done():
                chosen.granted.set_result(None)
