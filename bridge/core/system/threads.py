"""Work that takes long, off the event loop.

It still takes turns with the event loop for the interpreter, every few milliseconds, so everybody
else's answers go on; it does not become faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

LARGE_BYTES: Final = 16 * 1024
"""A request of less is read in at most some 30 milliseconds, even in very many small pieces."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def off_loop(large: bool, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Do pure work in a thread where it is for something large, and at once where it is not."""
    if large:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)
