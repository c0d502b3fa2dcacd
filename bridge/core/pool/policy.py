"""Which request gets which process, and which are started, reset and ended: one pure function.

`decide` takes the processes and the waiting requests, and decides what to do now. The pool executes
the decision and asks again whenever something has changed; so all rules are here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The activity of a process."""

    STARTING = "starting"
    BLANK = "blank"
    """Booted, not yet initialised."""
    PREPARING = "preparing"
    """Being initialised ahead of the request that will need it."""
    IDLE = "idle"
    """Initialised, its conversation empty."""
    RUNNING = "running"
    """Leased to a request."""
    PARKED = "parked"
    """Holding a conversation open for its next message."""
    RESETTING = "resetting"
    """Between a request and IDLE or PARKED."""
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process, as far as decisions need it."""

    id: int
    state: State
    profile: Hashable | None = None
    """The profile it was initialised with, or None."""
    used_at: float = 0.0
    """When it was last used, or started: the larger, the hotter."""
    conversation: str | None = None
    """The fingerprint of the conversation it holds (PARKED) or is about to hold (RESETTING)."""
    waits_for_tools: bool = False
    """Whether the parked turn waits for tool results."""
    caller: str = ""
    """The caller whose request it serves, while RUNNING."""


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request that waits for a process."""

    id: int
    profile: Hashable
    caller: str = ""
    continues: str | None = None
    """The fingerprint of the conversation it would continue; None if it cannot continue one."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many processes may run, and how many are kept ready."""

    pool_size: int
    """Concurrent turns."""
    max_processes: int
    """Processes of any state."""
    spares: int
    """Blanks kept ready beyond those in use."""
    park_seconds: float = 120.0
    """How long a conversation stays parked."""
    idle_seconds: float = 600.0
    """After this time, an unused process above the minimum is ended."""
    starts_at_once: int = 1
    """Processes that start at the same time: starting is nearly serial on few cores."""

    def __post_init__(self) -> None:
        if self.pool_size < 1 or self.spares < 0:
            raise ValueError("pool_size must be at least 1 and spares at least 0")
        if self.max_processes < self.pool_size:
            raise ValueError("max_processes must be at least pool_size")

    @property
    def kept_spares(self) -> int:
        """The spares that fit beside POOL_SIZE turns."""
        return min(self.spares, self.max_processes - self.pool_size)

    @property
    def minimum(self) -> int:
        """Processes kept even when there are no requests."""
        return self.pool_size + self.kept_spares


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now."""

    assign: tuple[tuple[int, int], ...] = ()
    """Pairs of a request's id and a process's id."""
    reset: tuple[int, ...] = ()
    """Parked processes whose conversation is to be wiped."""
    close: tuple[int, ...] = ()
    """Processes to end."""
    prepare: tuple[tuple[int, int], ...] = ()
    """Pairs of a blank and the process whose profile it is to be initialised with in advance."""
    start: int = 0
    """How many processes to start."""
    look_again_at: float | None = None
    """When time alone will change the decision."""
    short: int = 0
    """Requests that have a turn but no process, and for which none can be started here."""


# long: each phase works with what the previous ones have left over.
def decide(  # noqa: C901
    processes: Sequence[ProcessView],
    waiting: Sequence[RequestView],
    limits: PoolLimits,
    now: float = 0.0,
    served: Mapping[str, int] | None = None,
) -> Decision:
    """Decide what to do; `waiting` is in order of arrival, for `served` see `fair_order`.

    A request that cannot get a process yet keeps its place: no later one takes its turn.
    """
    idle = sorted(_in(processes, State.IDLE), key=lambda p: -p.used_at)
    blanks = _in(processes, State.BLANK)
    parked = _in(processes, State.PARKED)
    reset = [p for p in parked if now - p.used_at >= limits.park_seconds]
    parked = [p for p in parked if p not in reset]
    # Processes that will be ready in a few milliseconds, by profile and by conversation.
    resetting = _in(processes, State.RESETTING)
    soon = Counter(p.profile for p in [*resetting, *reset, *_in(processes, State.PREPARING)])
    parking: Counter[tuple[Hashable, str | None]] = Counter(
        (p.profile, p.conversation) for p in resetting if p.conversation
    )

    assign: list[tuple[int, int]] = []
    unmet = 0
    running = _in(processes, State.RUNNING)
    due = fair_order(waiting, Counter(p.caller for p in running), served)
    # Requests that continue a conversation take their process first: for another request it
    # would have to be evicted.
    turns = due[: max(limits.pool_size - len(running), 0)]
    continuing: set[int] = set()
    for request in turns:
        mine = (request.profile, request.continues)
        own = [p for p in parked if request.continues and (p.profile, p.conversation) == mine]
        if own:
            hottest = max(own, key=lambda p: p.used_at)
            parked.remove(hottest)
            assign.append((request.id, hottest.id))
            continuing.add(request.id)
        elif request.continues and parking[mine] > 0:
            parking[mine] -= 1
            soon[request.profile] -= 1
            continuing.add(request.id)
    for request in turns:
        if request.id in continuing:
            continue
        warm = next((p for p in idle if p.profile == request.profile), None)
        if warm is not None:
            idle.remove(warm)
            assign.append((request.id, warm.id))
        elif blanks:
            assign.append((request.id, blanks.pop(0).id))
        elif soon[request.profile] > 0:
            soon[request.profile] -= 1
        elif alike := [p for p in parked if p.profile == request.profile]:
            evicted = min(alike, key=_eviction_order)
            parked.remove(evicted)
            reset.append(evicted)
        else:
            unmet += 1

    prepare: list[tuple[int, int]] = []
    hot = None if waiting else _unserved_profile(processes, idle, parked)
    if hot is not None and now - hot.used_at >= limits.idle_seconds:
        hot = None
    extra = 0
    if hot is not None:
        alike = [p for p in parked if p.profile == hot.profile and not p.waits_for_tools]
        if len(blanks) > limits.kept_spares:
            prepare.append((blanks.pop(0).id, hot.id))
        elif len(processes) < limits.max_processes:
            extra = 1
        elif len(alike) > 1 and (oldest := min(parked, key=_eviction_order)) in alike:
            # Only the process parked longest: a recent conversation is not given up for it.
            parked.remove(oldest)
            reset.append(oldest)

    starting = _in(processes, State.STARTING)
    needed = _wanted(unmet, len(blanks) + len(starting), len(processes), limits)
    wanted = needed if starting else extra + needed
    room = limits.max_processes - len(processes)
    # The coldest empty processes make way first, then the conversations parked longest.
    closing = len(_in(processes, State.CLOSING))
    sacrifice = [*reversed(idle), *sorted(parked, key=_eviction_order)]
    # Nothing makes way for a process that is started on the mere chance of a request.
    close = sacrifice[: max(needed - max(room, 0) - closing, 0)]
    start = max(min(wanted, room, limits.starts_at_once - len(starting)), 0)

    met = start + len(starting) + closing + len(close) + max(room - start, 0)
    stale = [p for p in idle if p not in close and now - p.used_at >= limits.idle_seconds]
    surplus = len(processes) - closing - len(close) - limits.minimum
    if not waiting and not start:
        close += stale[::-1][: max(surplus, 0)]
    return Decision(
        tuple(assign),
        tuple(p.id for p in reset),
        tuple(p.id for p in close),
        tuple(prepare),
        start,
        _next_look(
            [p for p in parked if p not in close],
            [p for p in idle if p not in close] if surplus > 0 else [],
            limits,
            now,
        ),
        max(unmet - met, 0),
    )


def dispensable(processes: Sequence[ProcessView]) -> int | None:
    """Return the unused process that is worth least, for a pool that gives one up to another."""
    for state in (State.BLANK, State.IDLE, State.PARKED):
        if found := _in(processes, state):
            return min(found, key=_eviction_order).id
    return None


def _unserved_profile(
    processes: Sequence[ProcessView],
    idle: Sequence[ProcessView],
    parked: Sequence[ProcessView],
) -> ProcessView | None:
    """Return the last used process that holds a conversation, if no empty one has its profile.

    Its caller is likely to ask again, and not always in the same conversation.
    """
    parking = [p for p in _in(processes, State.RESETTING) if p.conversation is not None]
    last = max([*parked, *parking], key=lambda p: p.used_at, default=None)
    if last is None:
        return None
    emptying = [p for p in _in(processes, State.RESETTING) if p.conversation is None]
    ready = [*idle, *emptying, *_in(processes, State.PREPARING)]
    return None if any(p.profile == last.profile for p in ready) else last


def _wanted(unmet: int, coming: int, processes: int, limits: PoolLimits) -> int:
    """Return how many to start, beside the existing blanks and those already starting."""
    in_use = processes - coming
    spares = max(limits.kept_spares, limits.minimum - in_use - unmet)
    return max(unmet + spares - coming, 0)


def fair_order(
    waiting: Sequence[RequestView],
    running: Counter[str] | None = None,
    served: Mapping[str, int] | None = None,
) -> list[RequestView]:
    """Order requests: the caller with the fewest turns first, each caller's own in order.

    Among callers with equally many, the one whose last turn was longest ago comes first: `served`
    numbers the last turn of each caller who had one.
    """
    turns = Counter(running or {})
    served = served or {}
    ranked: list[tuple[int, int, int, RequestView]] = []
    for arrival, request in enumerate(waiting):
        caller = request.caller
        ranked.append((turns[caller], served.get(caller, 0), arrival, request))
        turns[caller] += 1
    return [request for *_, request in sorted(ranked, key=lambda entry: entry[:3])]


def _in(processes: Sequence[ProcessView], state: State) -> list[ProcessView]:
    return [process for process in processes if process.state is state]


def _eviction_order(process: ProcessView) -> tuple[bool, float]:
    # A finished conversation before a waiting one: its results can still arrive.
    return process.waits_for_tools, process.used_at


def _next_look(
    parked: Sequence[ProcessView], idle: Sequence[ProcessView], limits: PoolLimits, now: float
) -> float | None:
    times = [p.used_at + limits.park_seconds for p in parked]
    times += [t for p in idle if (t := p.used_at + limits.idle_seconds) > now]
    return min(times, default=None)
