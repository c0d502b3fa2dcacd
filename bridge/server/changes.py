"""Distributes the engine's changes to followers, each at its own pace."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)


class Changes:
    """Notifies every follower of each change; changes that come while one is busy are merged."""

    def __init__(self) -> None:
        self._events: list[asyncio.Event] = []

    def announce(self) -> None:
        """Report a change. Returns at once."""
        for event in self._events:
            event.set()

    def follow(self, act: Callable[[], Awaitable[None] | None]) -> Callable[[], object]:
        """Call `act` after each change, in a task; returns a function that stops it."""
        event = asyncio.Event()
        self._events.append(event)

        async def following() -> None:
            while True:
                await event.wait()
                event.clear()
                try:
                    result = act()
                    if inspect.isawaitable(result):
                        await result
                except Exception:
                    logger.exception("handling a change failed")

        return asyncio.create_task(following()).cancel
