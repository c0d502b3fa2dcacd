"""Who gets which process, and which are started and ended: one pure function.

`decide` looks at the processes and at the requests that wait, and says what to do now. The
pool carries it out and asks again whenever something has changed; so every rule stands here
and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What a process is doing."""

    STARTING = "starting"
    BLANK = "blank"
    """Booted, not yet initialised."""
    IDLE = "idle"
    """Initialised, its conversation empty."""
    RUNNING = "running"
    """Leased to a request."""
    RESETTING = "resetting"
    """Between a request and IDLE."""
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process, as far as decisions need it."""

    id: int
    state: State
    profile: Hashable | None = None
    """What it was initialised with; None where it was not."""
    used_at: float = 0.0
    """When it was last used, or started: the larger, the hotter."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request that waits for a process."""

    id: int
    profile: Hashable
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may run, and how much is kept ready."""

    pool_size: int
    """Turns at once."""
    max_processes: int
    """Processes of any state."""
    spares: int
    """Blanks kept ready beyond what is in use."""
    starts_at_once: int = 1
    """Processes that start at the same time: starting is nearly serial on few cores."""

    def __post_init__(self) -> None:
        if self.pool_size < 1 or self.spares < 0:
            raise ValueError("pool_size is at least 1 and spares at least 0")
        if self.max_processes < self.pool_size:
            raise ValueError("max_processes is at least pool_size")


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    assign: tuple[tuple[int, int], ...] = ()
    """Pairs of a request's id and a process's id."""
    close: tuple[int, ...] = ()
    """Processes to end."""
    start: int = 0
    """Processes to start."""


def decide(
    processes: Sequence[ProcessView], waiting: Sequence[RequestView], limits: Limits
) -> Decision:
    """Say what to do; `waiting` is in order of arrival.

    A request that cannot be given a process yet keeps its place: no later one takes the turn
    that is its due.
    """
    idle = sorted((p for p in processes if p.state is State.IDLE), key=lambda p: -p.used_at)
    blanks = [p for p in processes if p.state is State.BLANK]
    resetting = Counter(p.profile for p in processes if p.state is State.RESETTING)
    free_turns = limits.pool_size - sum(p.state is State.RUNNING for p in processes)

    assign: list[tuple[int, int]] = []
    unmet = 0
    for request in waiting[: max(free_turns, 0)]:
        warm = next((p for p in idle if p.profile == request.profile), None)
        if warm is not None:
            idle.remove(warm)
            assign.append((request.id, warm.id))
        elif resetting[request.profile] > 0:
            # In a few milliseconds there is one with the right profile.
            resetting[request.profile] -= 1
        elif blanks:
            assign.append((request.id, blanks.pop(0).id))
        else:
            unmet += 1

    starting = sum(p.state is State.STARTING for p in processes)
    in_use = len(processes) - len(blanks) - starting
    wanted = max(unmet + limits.spares, limits.pool_size + limits.spares - in_use)
    missing = wanted - len(blanks) - starting
    room = limits.max_processes - len(processes)
    # The coldest make way, for a request that waits and for the spares.
    close = tuple(p.id for p in reversed(idle))[: max(missing - max(room, 0), 0)]
    start = max(min(missing, room, limits.starts_at_once - starting), 0)
    return Decision(tuple(assign), close, start)
