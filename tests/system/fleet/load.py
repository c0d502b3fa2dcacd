"""Requests that keep coming, over both APIs, while a test does something to the fleet."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from tests.support.front_ends import KINDS, Apis
from tests.support.harness import PATIENCE, sim
from tests.support.replies import Failure, Reply

TOKENS: Final = 4
WHOLE: Final = "".join(f"w{n} " for n in range(TOKENS))


@dataclass(frozen=True)
class Asked:
    """A request of the load and what came of it."""

    mark: str
    kind: str
    reply: Reply

    @property
    def failure(self) -> Failure | None:
        if self.reply.failure is None:
            assert self.reply.text == WHOLE, self.reply
        return self.reply.failure


@dataclass
class Load:
    """What has come of the requests so far; it grows while the load goes on."""

    asked: list[Asked] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def failed(self) -> list[Asked]:
        return [one for one in self.asked if one.failure is not None]

    async def more(self, count: int) -> list[Asked]:
        """Wait for the ends of so many further requests; return these."""
        before = len(self.asked)
        async with asyncio.timeout(PATIENCE * max(1, count // 100)):
            while len(self.asked) < before + count:
                self.changed.clear()
                await self.changed.wait()
        return self.asked[before:]


@asynccontextmanager
async def load(apis: Apis, callers: int = 4, delay_ms: int = 20) -> AsyncIterator[Load]:
    """Ask with so many callers, each again and again; all have their answers at the end."""
    going_on, stop = Load(), asyncio.Event()

    async def call(number: int) -> None:
        for kind in itertools.islice(itertools.cycle(KINDS), number, None):
            if stop.is_set():
                return
            mark = uuid.uuid4().hex
            prompt = sim(tokens=TOKENS, delay_ms=delay_ms, note=mark)
            reply = await apis.call(kind, prompt).finish()
            going_on.asked.append(Asked(mark, kind, reply))
            going_on.changed.set()

    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(call(number))
        try:
            yield going_on
        finally:
            stop.set()
