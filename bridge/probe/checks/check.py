"""What a behaviour of the CLI is, and how it is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.probe.stage import Stage

Check = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Something the CLI does, and how it is shown."""

    id: str
    sentence: str
    check: Check
    required: bool = True
    """Whether the bridge cannot do without it."""
