"""Long computations, off the event loop.

They still share the interpreter with the event loop, switching every few milliseconds, so other
answers continue; they do not run faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

LARGE_BYTES: Final = 16 * 1024
"""A smaller request is parsed in at most some 30 milliseconds, even in very many small pieces."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def off_loop(large: bool, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run pure work in a thread if it is large, otherwise directly."""
    if large:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)
