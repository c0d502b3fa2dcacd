"""What a behaviour of the CLI is, and how it is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.probe.stage import (
    Stage,
)

if TYPE_CHECKING:
    pass


Check = Callable[[Stage], Awaitable[None]]


LATE = "late:"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Something the CLI does, and how it is shown."""

    id: str
    sentence: str
    check: Check
    kind: str = "required"
    """`required`, `rewind`, or `late:` and the name of a field of `TurnSettings`."""
    at_start: Check | None = None
    """Of a late setting: whether it holds when a process is started with it."""

    @property
    def setting(self) -> str | None:
        """The field of `TurnSettings` that it is about, if it is about one."""
        return self.kind.removeprefix(LATE) if self.kind.startswith(LATE) else None
