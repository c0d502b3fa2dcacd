"""What the pool keeps of a process, what a request needs of it, and what it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bridge.core.claude import Profile, Session
from bridge.core.contract import SessionSource
from bridge.core.pool.backoff import PROOF_SECONDS
from bridge.core.pool.policy import ProcessView, State


@dataclass(frozen=True, slots=True)
class Need:
    """What a request needs of a process."""

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
    """The ids of the calls it waits for; none where the turn is finished."""


@dataclass(slots=True, eq=False)
class PooledProcess:
    """A process of the pool, and what it does."""

    id: int
    state: State
    used_at: float
    session: Session | None = None
    """None while it is starting."""
    parking: Parking | None = None
    caller: str = ""
    forgotten: bool = False
    """Whether what is said in it now is not to be held open for its caller."""
    started_at: float = 0.0
    """When it began to start."""
    up_at: float = math.inf
    """When it was up."""
    proven: bool = False
    """Whether it has been of use."""
    leased_at: float = 0.0
    """When the turn that it serves began."""
    preparing: Profile | None = None
    """What it is being initialised with, ahead of the request that will need it."""

    @property
    def alive(self) -> bool:
        """Whether it can be used, now or soon."""
        return self.session is not None and self.session.alive and self.state is not State.CLOSING

    def sound(self, now: float) -> bool:
        """Whether it is no part of a crash loop."""
        return self.proven or now - self.up_at >= PROOF_SECONDS

    @property
    def last_words(self) -> str:
        """What it wrote to stderr, for the log: only where it was given nothing of a caller's."""
        session = self.session
        if session is None or session.profile is not None or session.answers:
            return ""
        return f": {session.stderr_tail}"

    def lend(self, caller: str, at: float, *, forgotten: bool) -> None:
        """Begin a turn of a caller's; for `forgotten` see the attribute."""
        self.state = State.RUNNING
        self.leased_at, self.caller, self.forgotten = at, caller, forgotten

    def prepare_like(self, other: PooledProcess) -> None:
        """Begin to be given the profile of another one."""
        assert other.session is not None
        self.state = State.PREPARING
        self.preparing = other.session.profile

    def view(self) -> ProcessView:
        """What decisions need of it."""
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
    """The exclusive use of a session for one completion. Give it back with `Pool.release`."""

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
