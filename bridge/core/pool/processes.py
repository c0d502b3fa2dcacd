"""The processes of the pool, by id, and what is counted of them."""

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
    """Those that came up."""
    ended: int = 0
    replaced: Counter[ReplacementReason] = field(default_factory=Counter)
    """Those of the ended ones that were replaced."""


class Phase(Enum):
    """What a pool does."""

    NEW = auto()
    """Nothing is started yet."""
    OPEN = auto()
    DRAINING = auto()
    """No new requests are taken."""
    CLOSED = auto()
    """Every process was ended, or is being ended."""


class Processes(dict[int, PooledProcess]):
    """The processes that there are, whatever they do."""

    def views(self) -> list[ProcessView]:
        """What decisions need of them."""
        return [process.view() for process in self.values()]

    def counts(self) -> dict[str, int]:
        """How many there are in each state."""
        counts = dict.fromkeys((str(state) for state in State), 0)
        for process in self.values():
            counts[process.state] += 1
        return counts

    def running(self) -> list[PooledProcess]:
        """Those that serve a request."""
        return [process for process in self.values() if process.state is State.RUNNING]

    def dead(self) -> list[PooledProcess]:
        """Those that ended while they were not in use."""
        return [
            process
            for process in self.values()
            if process.state in _UNUSED and process.session and not process.session.alive
        ]

    def sessions(self) -> list[Session]:
        """Those that are used, or ready to be: none that is being changed from one to the other."""
        return [
            process.session
            for process in self.values()
            if process.session is not None and process.state in _SETTLED
        ]

    def forget(self, caller: str) -> list[PooledProcess]:
        """Park nothing of a caller any longer; gives those that are parked now."""
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
