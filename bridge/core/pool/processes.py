"""The processes of the pool, by id, and their counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto

from bridge.core.claude import Session
from bridge.core.contract import ReplacementReason
from bridge.core.pool.leases import PooledProcess
from bridge.core.pool.policy import ProcessView, State

_SETTLED = (State.BLANK, State.IDLE, State.RUNNING, State.PARKED)
_UNUSED = (State.BLANK, State.IDLE, State.PARKED)


@dataclass(slots=True)
class ProcessTotals:
    """Counts of processes since the start."""

    started: int = 0
    """Processes that started successfully."""
    ended: int = 0
    replaced: Counter[ReplacementReason] = field(default_factory=Counter)
    """Ended processes that were replaced."""


class Phase(Enum):
    """The phase of a pool."""

    NEW = auto()
    """Nothing is started yet."""
    OPEN = auto()
    DRAINING = auto()
    """No new requests are accepted."""
    CLOSED = auto()
    """Every process was ended or is being ended."""


class Processes(dict[int, PooledProcess]):
    """All existing processes, in any state."""

    def views(self) -> list[ProcessView]:
        """Return what decisions need to know about them."""
        return [process.view() for process in self.values()]

    def counts(self) -> dict[str, int]:
        """Return the number of processes in each state."""
        counts = dict.fromkeys((str(state) for state in State), 0)
        for process in self.values():
            counts[process.state] += 1
        return counts

    def running(self) -> list[PooledProcess]:
        """Return those that serve a request."""
        return [process for process in self.values() if process.state is State.RUNNING]

    def dead(self) -> list[PooledProcess]:
        """Return those that ended while they were not in use."""
        return [
            process
            for process in self.values()
            if process.state in _UNUSED and process.session and not process.session.alive
        ]

    def sessions(self) -> list[Session]:
        """Return those in use or ready for use, not those in transition."""
        return [
            process.session
            for process in self.values()
            if process.session is not None and process.state in _SETTLED
        ]

    def forget(self, caller: str) -> list[PooledProcess]:
        """Stop parking for a caller; return the processes that are parked now."""
        own = [process for process in self.values() if process.caller == caller]
        for process in own:
            process.forgotten = True
            if process.state is State.RESETTING:
                process.parking = None
        return [process for process in own if process.state is State.PARKED]

    def any_alive(self) -> bool:
        """Whether any can be used, now or soon."""
        return any(process.alive for process in self.values())

    def all_sound(self, now: float) -> bool:
        """Whether there are any, and none of them is part of a crash loop."""
        return bool(self) and all(each.alive and each.sound(now) for each in self.values())
