"""The type of a CLI behaviour and its check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.probe.stage import Stage

Check = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A behaviour of the CLI, and its check."""

    id: str
    sentence: str
    check: Check
    required: bool = True
    """Whether the bridge requires it."""
