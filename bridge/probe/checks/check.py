"""The type of a CLI behaviour and its check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.probe.stage import Stage

NO_REWIND = "each process is closed after its conversation instead of being reset"
"""The fallback of a CLI that does not wipe its conversations."""

Check = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A behaviour of the CLI, and its check."""

    id: str
    sentence: str
    check: Check
    fallback: str = ""
    """What the bridge does without it; empty if it requires it."""

    @property
    def required(self) -> bool:
        """Whether the bridge requires it."""
        return not self.fallback
