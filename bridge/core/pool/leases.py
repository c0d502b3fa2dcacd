"""The pool's data about a process, the needs of a request, and the lease it gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from bridge.core.claude import Profile, Session
from bridge.core.contract import UNKNOWN_COST, Cost, SessionSource
from bridge.core.pool.backoff import PROOF_SECONDS
from bridge.core.pool.policy import ProcessView, State

Bill: TypeAlias = Callable[[Cost], None]
"""Called once with the cost of a turn, after its end."""


def free(cost: Cost) -> None:
    """Charge nobody."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs from a process."""

    profile: Profile
    caller: str = ""
    continues: str | None = None
    """The fingerprint of the conversation that it would continue."""


@dataclass(frozen=True, slots=True)
class Parking:
    """How a conversation is to be held open after a request."""

    conversation: str
    """Its fingerprint, the answer included."""
    calls: tuple[str, ...] = ()
    """The ids of the calls it waits for; none if the turn is finished."""


@dataclass(slots=True, eq=False)
class PooledProcess:
    """A process of the pool, and its activity."""

    id: int
    state: State
    used_at: float
    session: Session | None = None
    """None while it is starting."""
    parking: Parking | None = None
    caller: str = ""
    forgotten: bool = False
    """Whether its current conversation must not be held open for its caller."""
    started_at: float = 0.0
    """When it began to start."""
    up_at: float = math.inf
    """When it was ready."""
    proven: bool = False
    """Whether it has been of use."""
    leased_at: float = 0.0
    """When its current turn began."""
    bill: Bill = free
    """For the cost of its latest turn, until that was charged."""
    preparing: Profile | None = None
    """The profile it is being initialised with, ahead of the request that will need it."""

    @property
    def alive(self) -> bool:
        """Whether it can be used, now or soon."""
        return self.session is not None and self.session.alive and self.state is not State.CLOSING

    def sound(self, now: float) -> bool:
        """Whether it is not part of a crash loop."""
        return self.proven or now - self.up_at >= PROOF_SECONDS

    def charge(self, cost: Cost = UNKNOWN_COST) -> None:
        """Charge its latest turn, once."""
        bill, self.bill = self.bill, free
        bill(cost)

    @property
    def last_words(self) -> str:
        """Return its last output on stderr, for the log: only if it has received no caller data."""
        session = self.session
        if session is None or session.profile is not None or session.answers:
            return ""
        return f": {session.stderr_tail}"

    def lend(self, caller: str, at: float, *, forgotten: bool) -> None:
        """Start a turn of a caller; for `forgotten` see the attribute."""
        self.state = State.RUNNING
        self.leased_at, self.caller, self.forgotten = at, caller, forgotten

    def prepare_like(self, other: PooledProcess) -> None:
        """Start to initialise it with the profile of another process."""
        assert other.session is not None
        self.state = State.PREPARING
        self.preparing = other.session.profile

    def view(self) -> ProcessView:
        """Return what decisions need to know about it."""
        profile = self.preparing
        if self.session is not None and self.session.profile is not None:
            profile = self.session.profile
        parking = self.parking
        return ProcessView(
            self.id,
            self.state,
            profile,
            self.used_at,
            parking.conversation if parking else None,
            bool(parking and parking.calls),
            self.caller,
        )


@dataclass(slots=True, eq=False)
class Lease:
    """The exclusive use of a session for one completion. Return it with `Pool.release`."""

    session: Session
    source: SessionSource
    process: PooledProcess = field(repr=False)

    @classmethod
    def of(cls, process: PooledProcess, *, spawn_awaited: bool) -> Lease:
        """Lease a process that was granted."""
        assert process.session is not None
        if process.parking is not None:
            source = SessionSource.CONTINUED
        elif process.session.profile is not None:
            source = SessionSource.WARM
        else:
            source = SessionSource.SPAWNED if spawn_awaited else SessionSource.INITIALISED
        process.parking = None
        return cls(process.session, source, process)
