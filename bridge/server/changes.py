"""Whoever follows the engine's changes, each at its own pace."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


class Changes:
    """Passes each change on to every follower; those that come while one is busy become one."""

    def __init__(self) -> None:
        self._events: list[asyncio.Event] = []

    def announce(self) -> None:
        """Something has changed. Returns at once."""
        for event in self._events:
            event.set()

    def follow(self, act: Callable[[], Awaitable[None] | None]) -> Callable[[], object]:
        """Call `act` after each change, in a task; gives what ends that."""
        event = asyncio.Event()
        self._events.append(event)

        async def following() -> None:
            while True:
                await event.wait()
                event.clear()
                try:
                    doing = act()
                    if inspect.isawaitable(doing):
                        await doing
                except Exception:
                    logger.exception("a change could not be followed")

        return asyncio.create_task(following()).cancel
