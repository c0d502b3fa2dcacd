"""Waiting for events, with a limit that no test comes near when all is well."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from tests.support.harness import PATIENCE

T = TypeVar("T")


async def soon(event: Awaitable[T]) -> T:
    """Wait for something that is to happen; TimeoutError if it does not."""
    return await asyncio.wait_for(event, PATIENCE)
