"""Ends work when the client disconnects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from starlette.types import Receive

from bridge.core.contract import ClientClosedError
from bridge.core.telemetry import trace_of

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def disconnected(receive: Receive) -> NoReturn:
    """Raise ClientClosedError once the client disconnects. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
    raise ClientClosedError("The client closed the connection before the answer was complete.")


async def run_until(work: Coroutine[Any, Any, T], *watchers: Coroutine[Any, Any, NoReturn]) -> T:
    """Run `work` until it ends or a watcher raises, which cancels it.

    Returns or raises only after all of them have ended, so that what `work` holds is released.
    """
    task = asyncio.create_task(work)
    watching = [asyncio.create_task(watcher) for watcher in watchers]
    everything = [task, *watching]
    try:
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        finished = task.done()
    finally:
        for each in everything:
            each.cancel()
        await asyncio.wait(everything)
        for each in everything:
            _failure(each)  # asyncio complains of exceptions that are never retrieved
    if finished:
        return task.result()
    if (left := _failure(task)) is not None:
        logger.warning("cancelling an abandoned answer failed\n%s", trace_of(left))
    raise next(failure for watcher in watching if (failure := _failure(watcher)) is not None)


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    return None if task.cancelled() else task.exception()
