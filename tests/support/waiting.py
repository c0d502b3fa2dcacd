"""Waiting for events, with a limit that no test comes near when all is well, and for several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.support.harness import PATIENCE

T = TypeVar("T")


async def soon(event: Awaitable[T]) -> T:
    """Wait for something that is to happen; TimeoutError if it does not."""
    return await asyncio.wait_for(event, PATIENCE)


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something outside this process, which sends no event, is as it should be."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait until something that sends no event is as it should be."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)


def at_once(*works: Callable[[], T]) -> list[T]:
    """Do several things at the same time, each in a thread; what they return."""
    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(lambda work: work(), works))
